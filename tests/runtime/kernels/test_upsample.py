"""Larger images against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.guarded import Buffer, run

from gpmt.runtime.ir.operators.upsampling import FACTORS
from gpmt.runtime.kernels.upsample import UpsampleKernel
from gpmt.runtime.layout.planes import Planes


@pytest.mark.parametrize("across", FACTORS)
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([4, 8, 16]), st.sampled_from(["start", "end"]), st.sampled_from(FACTORS), st.integers(1, 3),
    st.integers(1, 5), st.integers(1, 20), st.integers(1, 40), st.integers(0, 9), st.integers(0, 9),
)  # fmt: skip
def test_upsample(across, lanes, side, down, images, channels, height, width, pads, more):
    source = Planes(images, channels, height, width, width + pads, 0)
    output = Planes(images, channels, down * height, across * width, across * width + more, 17)
    values = np.random.default_rng(1).standard_normal((images, channels, height, width)).astype(np.float32)
    result = Buffer(output, at=side)
    spec = UpsampleKernel(lanes, source, output, (down, across))
    run(spec, {"input": Buffer(source, values, side), "output": result}, reversed(range(spec.items)))
    result.check(values.repeat(down, 2).repeat(across, 3), tolerance=0)
