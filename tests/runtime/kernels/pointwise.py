"""Drawn sizes, layouts and arguments, for the tests of pointwise kernels."""

import numpy as np
import torch
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import ACTIVATIONS, LANES, SIDES, random_images
from tests.runtime.kernels.guarded import Buffer, copied, run

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
    given = {"left": left, "right": right, "output": output, **arrays, **more}
    return {name: given[name] for name in spec.ARGS}


def check_two_images(kernel, function, lanes, side, activation, sizes):
    """Compare a kernel of two images with NumPy's function in float64."""
    left, right, output = three_layouts(*sizes)
    one, other = random_images(1, left), random_images(2, right)
    exact = torch.from_numpy(function(one.astype(np.float64), other))
    result = Buffer(output, at=side)
    spec = kernel(lanes, left, right, output, activation)
    run(spec, arguments(spec, Buffer(left, one, side), Buffer(right, other, side), result, side))
    result.check(ACTIVATIONS[activation](exact).float().numpy())
