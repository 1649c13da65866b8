"""timm's optimisers and averages keep zeros zero under a Pruner."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch.nn import functional as F

import gpmt
from gpmt.core.schedule.schedule import ACDC, Gradual

NAMES = [
    "sgd",
    "adamw",
    "nadamw",
    "lamb",
    "lion",
    "adafactor",
    "muon",
    "adan",
    "madgrad",
    "rmsproptf",
    "lookahead_adamw",
]


def train(model: Any, optimizer: Any, data: Any, steps: int) -> Any:
    for step in range(steps):
        images, labels = data[4 * (step % 8) : 4 * (step % 8) + 4]
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        yield step + 1


@pytest.mark.parametrize("name", NAMES)
def test_zeros_stay_zero(toy: Any, name: str) -> None:
    model = toy.net()
    optimizer = create_optimizer_v2(model, opt=name, lr=1e-2, weight_decay=1e-2)
    pruner = gpmt.Pruner(model, optimizer, schedule=Gradual(0.9, end=6, interval=2), min_kept=5)
    for step in train(model, optimizer, toy.data(), 12):
        assert pruner.step_count == step
        zeros = sum(int((weight == 0).sum()) for weight in model.parameters() if weight.ndim == 2)
        assert zeros == (0 if pruner.plan is None else pruner.plan.pruned)
    assert gpmt.verify(model, sparsity=0.9, min_kept=5)


def test_average_is_sparse_and_dense_with_the_model(toy: Any) -> None:
    model = toy.net()
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1)
    schedule = ACDC(0.9, start=4, period=4, sparse=2, last_restore=6, end=8, unit="step")
    pruner = gpmt.Pruner(model, optimizer, schedule=schedule, min_kept=5)
    average = ModelEmaV3(model, decay=0.9)
    pruner.track(average)
    for step in train(model, optimizer, toy.data(), 12):
        average.update(model)
        zeros = sum(int((weight == 0).sum()) for weight in average.module.parameters() if weight.ndim == 2)
        if step == 7:  # lifted after step 6, the masks let go of the weights in step 7
            assert zeros < 0.5 * toy.numel
        elif step == 6:  # outputs of which nothing was left have their weights again
            assert zeros <= 0.9 * toy.numel
        elif step < 4:
            assert zeros == 0
        else:
            assert gpmt.verify(average.module, sparsity=0.9, min_kept=5), step


def test_lookahead_runs_the_pruner_although_it_makes_no_hooks_of_its_own():
    from timm.optim.lookahead import Lookahead

    torch.manual_seed(0)
    model = torch.nn.Linear(16, 16)
    optimizer = Lookahead(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), k=2)
    pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.75))
    for _ in range(5):
        model.zero_grad()  # not the optimiser's, which would repair it
        model(torch.randn(8, 16)).square().sum().backward()
        optimizer.step()
    assert pruner.step_count == 5
    mask = pruner.masks["weight"]
    assert not model.weight[~mask].any()
    state = optimizer._base_optimizer.state[model.weight]
    assert all(not value[~mask].any() for value in state.values() if torch.is_tensor(value))
