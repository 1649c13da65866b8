"""Sums of columns, and masks of columns as masks of weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.structure import column_scores, live_columns, spread
from gpmt.errors import WeightsError


@settings(max_examples=50)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(0, 10_000),
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
def test_scores_are_sums_row_by_row_in_float64_for_any_strides(rows, columns, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(dtype)
    expected = [0.0] * columns
    for row in matrix.double().tolist():
        expected = [total + abs(value) for total, value in zip(expected, row, strict=True)]
    layouts = {"a": matrix, "b": matrix.T.contiguous().T, "c": matrix.repeat_interleave(2, dim=1)[:, ::2]}
    for scores in column_scores(layouts).values():
        assert scores.dtype == torch.float64
        assert scores.tolist() == expected


def test_chunks_do_not_change_scores_or_counts(monkeypatch):
    matrix = torch.randn(37, 13).relu() * (torch.arange(13) % 3 > 0)
    scores, live = column_scores({"a": matrix})["a"], live_columns(matrix)
    monkeypatch.setattr("gpmt.core.structure.CHUNK", 30)
    assert torch.equal(column_scores({"a": matrix})["a"], scores)
    assert live_columns(matrix) == live == 8


@given(st.integers(1, 9), st.lists(st.booleans(), min_size=1, max_size=20))
def test_spread_repeats_the_columns_in_every_row(rows, columns):
    packed = torch.from_numpy(np.packbits(columns, bitorder="little"))
    bits = np.unpackbits(spread(packed, (rows, len(columns))).numpy(), bitorder="little")
    assert bits.tolist()[: rows * len(columns)] == columns * rows
    assert not bits[rows * len(columns) :].any()


def test_a_sum_beyond_float64_is_refused():
    with pytest.raises(WeightsError, match="a has 1 of 2 columns whose sum is NaN or infinite"):
        column_scores({"a": torch.tensor([[1e308, 1.0], [-1e308, 1.0]], dtype=torch.float64)})
