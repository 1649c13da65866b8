"""Whole columns, pruned while training."""

from fractions import Fraction

import pytest
import torch
from torch import nn

import gpmt
from gpmt.core.layers.axes import Axes
from gpmt.core.units.column import Column
from gpmt.errors import MaskError

COLUMNS = {"scope": ["*.W1", "*.U1"], "granularity": "column"}


class Factors(nn.Module):
    """Matrices of 9 and 80 columns that are parameters of their own, not layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.W1, self.U1 = (nn.Parameter(torch.rand(4, columns)) for columns in (9, 80))

    def forward(self, x):
        return x @ self.W1 @ torch.ones(9, 2) + x @ self.U1 @ torch.ones(80, 2)


def make(schedule, **keywords):
    model = nn.Sequential(Factors(), nn.Linear(2, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return model, optimizer, gpmt.Pruner(model, optimizer, schedule=schedule, **keywords)


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(3, 4)).square().sum().backward()
        optimizer.step()


def test_columns_stay_zero_to_the_published_ranks():
    schedule = gpmt.Gradual(Fraction(72, 89), end=6, interval=2)
    model, optimizer, pruner = make(schedule, min_kept=8, **COLUMNS)
    kept = []
    for _ in range(5):
        train(model, optimizer, 2)
        kept.append((Column().live(Axes(), model[0].W1), Column().live(Axes(), model[0].U1)))
    assert sum(kept[0]) > sum(kept[1]) > 17
    assert [sum(pair) for pair in kept[2:]] == [17] * 3
    assert all(w >= 8 and u >= 8 for w, u in kept)
    assert model[1].weight.all()
    for weight, name in ((model[0].W1, "0.W1"), (model[0].U1, "0.U1")):
        assert not weight[~pruner.masks[name]].any()
        assert not optimizer.state[weight]["exp_avg"][~pruner.masks[name]].any()
    assert gpmt.verify(model, sparsity=Fraction(72, 89), min_kept=8, masks=pruner.masks, **COLUMNS)


def test_resuming_with_another_granularity_is_refused():
    schedule = gpmt.OneShot(0.5)
    _, _, columns = make(schedule, **COLUMNS)
    _, _, again = make(schedule, **COLUMNS)
    again.load_state_dict(columns.state_dict())
    assert again.masks == columns.masks
    _, _, weights = make(schedule, scope=COLUMNS["scope"])
    with pytest.raises(MaskError, match="saved with granularity='column', but this Pruner has 'weight'"):
        weights.load_state_dict(columns.state_dict())
