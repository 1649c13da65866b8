"""The default method is that of a Pruner which is given none."""

from __future__ import annotations

import torch

import gpmt


def test_pruned_weights_are_zero_after_every_step_and_return_from_zero() -> None:
    model = torch.nn.Linear(8, 8, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(0.5), method=gpmt.Hard())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 8)).square().sum().backward()
        optimizer.step()
        assert int((model.weight == 0).sum()) == 32
    assert pruner.method == gpmt.Hard()
    pruner.finish()
    assert pruner.masks is not None
