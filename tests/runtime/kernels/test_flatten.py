"""Images to vectors against NumPy."""

from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_images, transposed, vectors
from tests.runtime.kernels.guarded import Buffer, run

from gpmt.runtime.kernels.flatten import FlattenKernel
from gpmt.runtime.layout.planes import Planes


@few_examples
@given(
    LANES, SIDES, st.integers(1, 3) | st.integers(1, 40), st.integers(1, 5), st.integers(1, 9), st.integers(1, 20),
    st.integers(0, 9),
)  # fmt: skip
def test_equals_numpy(lanes, side, samples, channels, height, width, padding):
    source = Planes(samples, channels, height, width, width + padding, padding)
    images = random_images(0, source)
    output = Buffer(vectors(samples, channels * height * width), at=side)
    spec = FlattenKernel(lanes, source, output.layout)
    run(spec, {"input": Buffer(source, images, side), "output": output})
    output.check(transposed(images.reshape(samples, -1)), tolerance=0)
