import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpmt.core.layers.axes import Axes
from gpmt.core.units.column import Column
from gpmt.errors import ScopeError

COLUMN = Column()


def test_columns_are_the_last_dimension_whatever_counts_the_outputs():
    matrix = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.0, 0.0]])
    for axes in (Axes(), Axes(1), Axes(told=False)):
        COLUMN.check("a", axes, (2, 3))
        assert COLUMN.count(axes, (2, 3)) == 3
        assert COLUMN.values("a", axes, matrix).tolist() == [1.5, 2, 0]
        assert COLUMN.live(axes, matrix) == 2


@given(st.integers(1, 9), st.lists(st.booleans(), min_size=1, max_size=20))
def test_columns_are_spread_over_every_row(rows, columns):
    mask = COLUMN.spread(torch.tensor(columns), Axes(), (rows, len(columns)))
    assert mask.tolist() == [columns] * rows


def test_what_is_no_matrix_is_refused():
    with pytest.raises(ScopeError, match="c has 4 dimensions, but whole columns are pruned of matrices only"):
        COLUMN.check("c", Axes(), (2, 3, 3, 3))
