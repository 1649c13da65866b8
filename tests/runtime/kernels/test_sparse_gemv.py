"""Sparse linear layers of a few samples, against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import SIDES, random_values, transposed, vectors
from tests.runtime.kernels.guarded import PATTERN, Buffer, backwards, close, copied, run

from gpmt.runtime.ir.activation import IDENTITY, RELU, Activation
from gpmt.runtime.kernels.sparse_gemv import MOST_COPIED, SparseGemvKernel

FUNCTIONS = {
    IDENTITY: lambda x: x,
    RELU: lambda x: np.maximum(x, 0),
    Activation("silu"): lambda x: x / (1 + np.exp(-x)),
}


def compute(spec, rows, weight, bias, side="end"):
    """Return the buffer with the result, between guard pages."""
    result = Buffer(spec.output, at=side)
    args = {"input": Buffer(spec.input, transposed(rows), side), "output": result}
    args |= {name: copied(array, side) for name, array in spec.pack_weights(weight, bias).items()}
    run(spec, args, backwards(spec))
    return result


def sparse_weight(seed, filters, features, density):
    kept = np.random.default_rng(seed).random((filters, features)) < density
    return random_values(seed, filters, features) * kept


@settings(max_examples=20)
@given(
    SIDES, st.integers(1, 4), st.integers(1, 70), st.integers(1, 70), st.integers(1, 9),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]), st.sampled_from(list(FUNCTIONS)), st.integers(0, 99),
)  # fmt: skip
def test_equals_numpy(side, samples, features, filters, parts, density, activation, seed):
    rows = random_values(seed, samples, features)
    weight, bias = sparse_weight(seed, filters, features, density), random_values(seed + 2, filters)
    spec = SparseGemvKernel(vectors(samples, features), vectors(samples, filters), parts, activation)
    result = compute(spec, rows, weight, bias, side)
    expected = FUNCTIONS[activation](rows.astype(np.float64) @ weight.T.astype(np.float64) + bias)
    close(result.pixels[0, :, 0].T, expected.astype(np.float32))
    # Nothing else is written.
    rest = result.elements.copy()
    spec.output.view(rest)[...] = PATTERN
    assert (rest == PATTERN).all()


@pytest.mark.parametrize("samples", [1, 3])
def test_pruned_weights_are_skipped(samples):
    """Weights that fill quads are not pruned weights: an infinite feature that nobody reads changes nothing."""
    rows = random_values(1, samples, 9)
    rows[:, 0] = np.inf
    weight = random_values(2, 5, 9)
    weight[:, 0] = 0
    result = compute(
        SparseGemvKernel(vectors(samples, 9), vectors(samples, 5), 2), rows, weight, random_values(3, 5)
    )
    assert np.isfinite(result.pixels).all()


def test_the_largest_layers_fit():
    features = MOST_COPIED - 1
    assert SparseGemvKernel.fits(features, 1)
    assert not SparseGemvKernel.fits(features + 1, 1)
    assert not SparseGemvKernel.fits(features, 2)
    assert not SparseGemvKernel.fits(10, 5)
    rows, weight = random_values(1, 1, features), sparse_weight(2, 3, features, 0.01)
    spec = SparseGemvKernel(vectors(1, features), vectors(1, 3), 3)
    result = compute(spec, rows, weight, np.zeros(3, np.float32))
    close(
        result.pixels[0, :, 0].T, (rows.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.float32)
    )
