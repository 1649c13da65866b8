"""Nearest-neighbour upsampling against NumPy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, random_images
from tests.runtime.kernels.guarded import Buffer, backwards, run

from gpmt.runtime.ir.operators.upsampling import FACTORS
from gpmt.runtime.kernels.upsample import UpsampleKernel
from gpmt.runtime.layout.planes import Planes


@pytest.mark.parametrize("across", FACTORS)
@settings(max_examples=25)
@given(
    LANES, SIDES, st.sampled_from(FACTORS), st.integers(1, 3), st.integers(1, 5),
    st.integers(1, 20), st.integers(1, 40), st.integers(0, 9), st.integers(0, 9),
)  # fmt: skip
def test_equals_numpy(across, lanes, side, down, images, channels, height, width, padding, more):
    source = Planes(images, channels, height, width, width + padding, 0)
    output = Planes(images, channels, down * height, across * width, across * width + more, 17)
    values = random_images(1, source)
    result = Buffer(output, at=side)
    spec = UpsampleKernel(lanes, source, output, (down, across))
    run(spec, {"input": Buffer(source, values, side), "output": result}, backwards(spec))
    result.check(values.repeat(down, 2).repeat(across, 3), tolerance=0)
