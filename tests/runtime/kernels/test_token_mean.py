"""Means over the tokens of each sample against NumPy in float64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_values, transposed, vectors
from tests.runtime.kernels.guarded import Buffer, backwards, run

from gpmt.runtime.kernels.token_mean import TokenMeanKernel


@few_examples
@given(LANES, SIDES, st.integers(1, 4), st.integers(1, 5) | st.integers(1, 70), st.integers(1, 40))
def test_equals_numpy(lanes, side, samples, tokens, features):
    values = random_values(0, samples, tokens, features)
    source, output = vectors(samples * tokens, features), vectors(samples, features)
    result = Buffer(output, at=side)
    spec = TokenMeanKernel(lanes, source, output)
    images = transposed(values.reshape(samples * tokens, features))
    run(spec, {"input": Buffer(source, images, side), "output": result}, backwards(spec))
    expected = transposed(values.astype(np.float64).mean(1))
    np.testing.assert_allclose(result.pixels, expected, atol=1e-6)
