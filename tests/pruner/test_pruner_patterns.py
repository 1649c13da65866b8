"""Training under N:M patterns and under rows."""

import pytest
import torch
from torch import nn

import gpmt
from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot
from gpmt.errors import BudgetError
from gpmt.pruner.pruner import Pruner


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 8)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        (OneShot(0.5), {"pattern": "2:4"}),
        (ACDC(0.5, start=1, period=2, sparse=1, last_restore=2, end=4, unit="step"), {"pattern": "2:4"}),
        (Gradual(0.75, start=0, end=4, interval=2, unit="step"), {"within": "row", "min_kept": 2}),
    ],
)
def test_every_run_keeps_its_share_while_training(schedule, options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = Pruner(model, optimizer, schedule=schedule, **options)
    train(model, optimizer, 6)
    for layer in (model[0], model[2]):
        kept = layer.weight != 0
        if "pattern" in options:
            assert (kept.view(-1, 4).sum(1) == 2).all()
        else:
            assert (kept.sum(1) == 2).all()
    again = Pruner(model, torch.optim.SGD(model.parameters(), lr=0.1), schedule=schedule, **options)
    again.load_state_dict(pruner.state_dict())
    assert again.masks == pruner.masks


def test_a_gradual_schedule_cannot_follow_a_pattern():
    model = nn.Linear(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    text = r"Gradual prunes to sparsity [\d.]+ at step \d+, but pattern 2:4 has one sparsity, 0\.5; use gpmt\.OneShot"
    with pytest.raises(BudgetError, match=text):
        Pruner(model, optimizer, schedule=Gradual(0.5, start=0, end=10, interval=2), pattern="2:4")
    with pytest.raises(BudgetError, match=r"OneShot prunes to sparsity 0\.9 at step 0"):
        Pruner(model, optimizer, schedule=gpmt.OneShot(0.9), pattern="2:4")
    assert model.weight.all()
