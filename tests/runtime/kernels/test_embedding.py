"""Rows of a table into vectors against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_values, transposed, vectors
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run

from gpmt.runtime.kernels.embedding import EmbeddingKernel

COUNTS = st.integers(1, 5) | st.integers(1, 70)


@few_examples
@given(LANES, SIDES, COUNTS, COUNTS, COUNTS, st.sampled_from([np.int64, np.int32]))
def test_equals_numpy(lanes, side, samples, features, rows, dtype):
    table = random_values(0, rows, features)
    indices = np.random.default_rng(1).integers(0, rows, samples).astype(dtype)
    output = Buffer(vectors(samples, features), at=side)
    spec = EmbeddingKernel(lanes, output.layout, rows, indices.itemsize)
    args = {"input": copied(indices, side), "table": copied(table, side), "output": output}
    run(spec, args, backwards(spec))
    output.check(transposed(table[indices]), tolerance=0)


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_no_index_reads_other_memory(dtype):
    table = random_values(0, 3, 20)
    indices = np.array([-1, 3, np.iinfo(dtype).max, np.iinfo(dtype).min, 1], dtype)
    output = Buffer(vectors(5, 20))
    spec = EmbeddingKernel(16, output.layout, 3, indices.itemsize)
    run(spec, {"input": copied(indices), "table": copied(table), "output": output})
    output.check(transposed(table[[2, 2, 2, 2, 1]]), tolerance=0)
