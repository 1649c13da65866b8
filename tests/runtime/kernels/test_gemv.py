"""Linear layers of a few samples, against NumPy in float64."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, random_values, transposed, vectors
from tests.runtime.kernels.guarded import PATTERN, Buffer, backwards, close, copied, run

from gpmt.runtime.ir.activation import IDENTITY, RELU
from gpmt.runtime.kernels.gemv import GemvKernel


@settings(max_examples=12)
@given(
    LANES, SIDES, st.integers(1, 4), st.integers(1, 70), st.integers(1, 70), st.integers(1, 4),
    st.sampled_from([IDENTITY, RELU]), st.integers(0, 99),
)  # fmt: skip
def test_equals_numpy(lanes, side, samples, features, filters, block_vectors, activation, seed):
    rows = random_values(seed, samples, features)
    weight, bias = random_values(seed + 1, filters, features), random_values(seed + 2, filters)
    expected = rows.astype(np.float64) @ weight.T.astype(np.float64) + bias
    if activation is RELU:
        expected = np.maximum(expected, 0)
    source, output = vectors(samples, features), vectors(samples, filters)
    spec = GemvKernel(lanes, source, output, block_vectors, activation)
    weights, biases = (copied(array, side) for array in spec.pack_weights(weight, bias))
    result = Buffer(output, at=side)
    args = {
        "input": Buffer(source, transposed(rows), side),
        "output": result,
        "weights": weights,
        "bias": biases,
    }
    run(spec, args, backwards(spec))
    close(result.pixels[0, :, 0].T, expected.astype(np.float32))
    # Nothing else is written.
    rest = result.elements.copy()
    output.view(rest)[...] = PATTERN
    assert (rest == PATTERN).all()
