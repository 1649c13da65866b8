"""Vectors out of planes of features against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_values, transposed, vectors
from tests.runtime.kernels.guarded import Buffer, backwards, guarded, run

from gpmt.runtime.kernels.export_vectors import ExportVectorsKernel

COUNTS = st.integers(1, 5) | st.integers(1, 70)


@few_examples
@given(LANES, SIDES, COUNTS, COUNTS, st.sampled_from([0, 5]))
def test_equals_numpy(lanes, side, samples, features, padding):
    rows = random_values(0, samples, features)
    output = guarded(rows.size, at=side).reshape(rows.shape)
    layout = vectors(samples, features, padding)
    args = {"input": Buffer(layout, transposed(rows), side), "output": output}
    run(ExportVectorsKernel(lanes, layout), args)
    np.testing.assert_array_equal(output, rows)


@pytest.mark.parametrize(("samples", "features"), [(100, 1030), (1, 25088), (3000, 50)])
def test_several_items(samples, features):
    rows = random_values(0, samples, features)
    output = guarded(rows.size).reshape(rows.shape)
    layout = vectors(samples, features)
    spec = ExportVectorsKernel(8, layout)
    assert spec.items > 5
    run(spec, {"input": Buffer(layout, transposed(rows)), "output": output}, backwards(spec))
    np.testing.assert_array_equal(output, rows)
