"""The means of channels against NumPy in float64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_images, vectors
from tests.runtime.kernels.guarded import PATTERN, Buffer, close, run

from gpmt.runtime.kernels.global_mean import GlobalMeanKernel
from gpmt.runtime.layout.planes import Planes


@few_examples
@given(
    LANES, SIDES, st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9),
    st.booleans(),
)  # fmt: skip
def test_equals_numpy(lanes, side, images, channels, height, width, padding, to_vectors):
    source = Planes(images, channels, height, width, width + padding, padding)
    values = random_images(0, source)
    means = values.mean((2, 3), dtype=np.float64, keepdims=True).astype(np.float32)
    output = vectors(images, channels) if to_vectors else Planes(images, channels, 1, 1, 3, 2)
    result = Buffer(output, at=side)
    run(GlobalMeanKernel(lanes, source, output), {"input": Buffer(source, values, side), "output": result})
    close(result.pixels, means.transpose(2, 1, 3, 0) if to_vectors else means)
    # Nothing else is written.
    rest = result.elements.copy()
    output.view(rest)[...] = PATTERN
    assert (rest == PATTERN).all()
