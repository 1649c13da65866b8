"""What tests of pointwise kernels share: drawn sizes, layouts and arguments."""

from hypothesis import strategies as st
from tests.runtime.kernels.drawing import ACTIVATIONS, LANES, SIDES
from tests.runtime.kernels.guarded import copied

from gpmt.runtime.layout.planes import Planes

SIZES = st.tuples(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9)
)
"""Images, channels, height, width, padding."""
COMMON = LANES, SIDES, st.sampled_from([*ACTIVATIONS]), SIZES


def three_layouts(images, channels, height, width, padding):
    """Return layouts of one pitch and different gaps."""
    return [Planes(images, channels, height, width, width + padding, 30 * i) for i in range(3)]


def arguments(spec, left, right, output, side="end", **more):
    """Return the arguments of a kernel; those that it does not read are 0."""
    arrays = {"mask": copied(spec.output.mask(), side), "sizes": copied(spec.sizes(), side)}
    return {"left": left, "right": right, "output": output, "scale": 0, "shift": 0, **arrays, **more}
