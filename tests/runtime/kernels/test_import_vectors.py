"""Vectors into planes of features against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_values, transposed, vectors
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run

from gpmt.runtime.kernels.import_vectors import ImportVectorsKernel

COUNTS = st.integers(1, 5) | st.integers(1, 70)


@few_examples
@given(LANES, SIDES, COUNTS, COUNTS, st.integers(0, 3), st.sampled_from([0, 5]))
def test_equals_numpy(lanes, side, samples, features, more, padding):
    # With more features in the tensor its rows are not contiguous, and the last one ends where the memory ends.
    rows = copied(random_values(0, samples, features + more), side)[:, more:]
    output = Buffer(vectors(samples, features, padding), at=side)
    spec = ImportVectorsKernel(lanes, output.layout)
    address = rows.__array_interface__["data"][0]
    run(spec, {"input": address, "output": output, "row": rows.strides[0]})
    # Blocks of samples end with zeros; padding behind these is not written.
    np.testing.assert_array_equal(output.pixels, transposed(rows))
    if not padding:
        output.check(transposed(rows), tolerance=0)


@pytest.mark.parametrize(("samples", "features"), [(100, 1030), (1, 25088), (3000, 50)])
def test_several_items(samples, features):
    rows = copied(random_values(0, samples, features))
    output = Buffer(vectors(samples, features))
    spec = ImportVectorsKernel(8, output.layout)
    assert spec.items > 5
    run(spec, {"input": rows, "output": output, "row": rows.strides[0]}, backwards(spec))
    output.check(transposed(rows), tolerance=0)
