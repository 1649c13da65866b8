"""Linear layers of a few samples, against NumPy in double precision."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.guarded import Buffer, close, copied, run

from gpmt.runtime.ir.activation import IDENTITY, RELU
from gpmt.runtime.kernels.gemv import GemvKernel
from gpmt.runtime.layout.planes import Planes


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([4, 8, 16]), st.sampled_from(["start", "end"]), st.integers(1, 4), st.integers(1, 70),
    st.integers(1, 70), st.integers(1, 4), st.sampled_from([IDENTITY, RELU]), st.integers(0, 99),
)  # fmt: skip
def test_linear(lanes, side, samples, features, filters, vectors, activation, seed):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((samples, features)).astype(np.float32)
    weight = random.standard_normal((filters, features)).astype(np.float32)
    bias = random.standard_normal(filters).astype(np.float32)
    expected = rows.astype(np.float64) @ weight.T.astype(np.float64) + bias
    if activation is RELU:
        expected = np.maximum(expected, 0)
    source, output = (Planes(1, count, 1, samples, samples, 0) for count in (features, filters))
    spec = GemvKernel(lanes, source, output, vectors, activation)
    weights, biases = (copied(array, side) for array in spec.pack_weights(weight, bias))
    result = Buffer(output, np.zeros((1, filters, 1, samples)), side)
    args = {
        "input": Buffer(source, rows.T[None, :, None], side),
        "output": result,
        "weights": weights,
        "bias": biases,
    }
    run(spec, args, reversed(range(spec.items)))
    close(result.pixels[0, :, 0].T, expected.astype(np.float32))
    rest = result.numbers[: output.origin + output.images * output.image_stride].copy()
    output.view(rest)[...] = 0
    assert not rest.any()
