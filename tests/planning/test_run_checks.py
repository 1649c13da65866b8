from fractions import Fraction

import pytest
import torch

from gpmt.core.layers.axes import Axes
from gpmt.core.selection.nm import NM
from gpmt.core.units.in_runs import InRuns
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.items import Item
from gpmt.planning.run_checks import check_infinite_in_runs, check_run, lengths_of


def item(name: str, shape: tuple[int, ...]) -> Item:
    return Item(name, name, "Linear", Axes(), shape, torch.Size(shape).numel(), torch.ones(shape))


def test_lengths_of_rows_and_patterns():
    items = [item("a", (2, 8)), item("b", (2, 4, 3))]
    assert lengths_of(InRuns(None), items) == [8, 12]
    assert lengths_of(InRuns(NM(2, 4)), items) == [4, 4]
    with pytest.raises(
        ScopeError, match=r"a multiple of 8 inputs, which these do not have: b \(4\); leave .*\['b'\]"
    ):
        lengths_of(InRuns(NM(1, 8)), items)
    many = [item(str(i), (1, 3)) for i in range(5)]
    with pytest.raises(ScopeError, match=r"0 \(3\), 1 \(3\), 2 \(3\) and 2 more; .*'3', '4'\]"):
        lengths_of(InRuns(NM(1, 2)), many)


def test_a_minimum_must_fit_into_every_run():
    block = item("a", (2, 10))
    half = {"sparsity": Fraction(1, 2), "minimum": "6", "pattern": None}
    check_run(block, 10, 5, floor=10, **half)
    with pytest.raises(
        BudgetError, match="keeps 5 of the 10 weights of each row of a, but the minimum of 6 needs 6"
    ):
        check_run(block, 10, 5, floor=12, **half)


def test_infinite_scores_must_fit_into_every_run():
    block = item("a", (2, 4))
    block.values[1, :2] = torch.inf
    check_infinite_in_runs(block, 4, 2)
    with pytest.raises(
        BudgetError, match=r"2 of 4 scores .* in a are inf, which are always kept, but only 1 can be"
    ):
        check_infinite_in_runs(block, 4, 1)
