"""Sums of columns, and masks of columns as masks of weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.units import Column, Weight, unit_of
from gpmt.errors import BudgetError, WeightsError

COLUMN = Column()


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
    for layout in layouts.values():
        scores = COLUMN.values("a", "matrix", layout)
        assert scores.dtype == torch.float64
        assert scores.tolist() == expected


def test_chunks_do_not_change_scores_or_counts(monkeypatch):
    matrix = torch.randn(37, 13).relu() * (torch.arange(13) % 3 > 0)
    scores, live = COLUMN.values("a", "matrix", matrix), COLUMN.live("matrix", matrix)
    monkeypatch.setattr("gpmt.core.units.CHUNK", 30)
    assert torch.equal(COLUMN.values("a", "matrix", matrix), scores)
    assert COLUMN.live("matrix", matrix) == live == 8


@given(st.integers(1, 9), st.lists(st.booleans(), min_size=1, max_size=20))
def test_columns_are_spread_over_every_row(rows, columns):
    mask = COLUMN.spread(torch.tensor(columns), "matrix", (rows, len(columns)))
    assert mask.tolist() == [columns] * rows


def test_weights_are_units_as_they_are():
    block = torch.tensor([[1.0, 0.0], [float("nan"), -0.0]])
    unit = unit_of("weight")
    assert (unit.plural, unit.count("Linear", (2, 2)), unit.live("Linear", block)) == ("weights", 4, 2)
    assert unit.values("a", "Linear", block) is block
    assert Weight().spread(torch.tensor([True, False, True, True]), "Linear", (2, 2)).tolist()[0] == [
        True,
        False,
    ]


def test_an_unknown_granularity_is_refused():
    with pytest.raises(BudgetError, match="granularity is 'pixel', but must be one of weight, column"):
        unit_of("pixel")


def test_a_sum_beyond_float64_is_refused():
    with pytest.raises(WeightsError, match="a has 1 of 2 columns whose sum is NaN or infinite"):
        COLUMN.values("a", "matrix", torch.tensor([[1e308, 1.0], [-1e308, 1.0]], dtype=torch.float64))
