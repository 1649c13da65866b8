import pytest
import torch

from gpmt.core.layers.axes import Axes
from gpmt.core.selection.nm import NM
from gpmt.core.units.in_runs import InRuns
from gpmt.errors import ScopeError

ROWS, PAIRS = InRuns(None), InRuns(NM(1, 2))


@pytest.mark.parametrize(
    ("unit", "axes", "shape", "length", "in_order"),
    [
        (ROWS, Axes(), (3, 4), 4, True),
        (ROWS, Axes(1), (3, 4), 3, False),
        (ROWS, Axes(), (3, 4, 2, 2), 16, True),
        (ROWS, Axes(1, stacked=True), (5, 3, 4), 4, True),
        (ROWS, Axes(2, stacked=True), (5, 3, 4), 3, False),
        (PAIRS, Axes(), (3, 4), 2, True),
        (PAIRS, Axes(), (3, 4, 2, 2), 2, False),
        (PAIRS, Axes(1), (4, 3), 2, False),
    ],
)
def test_runs_follow_one_another(unit, axes, shape, length, in_order):
    block = torch.arange(torch.Size(shape).numel()).view(shape)
    values = unit.values("a", axes, block).flatten()
    assert (unit.length(axes, shape), unit.in_order(axes, shape)) == (length, in_order)
    assert torch.equal(values, block.flatten()) or not in_order
    assert all(torch.equal(run, run.sort().values) for run in values.view(-1, length))
    mask = unit.spread(values % 3 == 0, axes, shape)
    assert torch.equal(mask, block % 3 == 0)


def test_consecutive_inputs_have_the_same_tap():
    filters = torch.arange(2 * 4 * 3).view(2, 4, 3)
    assert PAIRS.values("a", Axes(), filters).reshape(-1, 2)[:4].tolist() == [[0, 3], [6, 9], [1, 4], [7, 10]]


def test_weights_whose_outputs_are_not_known_are_refused():
    with pytest.raises(
        ScopeError, match="which dimension of a counts its outputs, so the inputs of one output can"
    ):
        ROWS.check("a", Axes(told=False), (2, 3, 4))
