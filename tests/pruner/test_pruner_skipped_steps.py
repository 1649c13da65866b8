"""Steps that a GradScaler skips: they do not count, unless they are reported, and they need no gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gpmt.core.schedule.schedule import Gradual
from gpmt.pruner.pruner import Pruner


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_a_fused_optimiser_without_gradients(toy: Any, make: Any) -> None:
    """A GradScaler that finds no gradients leaves the number 0, not a tensor, with the optimiser."""
    model = toy.model()
    optimizer = make(model.parameters(), lr=0.1, fused=True)
    pruner = Pruner(model, optimizer, schedule=Gradual(0.9, start=1, end=2, initial=0.2))
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(()))  # makes the scale
    scaler.step(optimizer)
    assert pruner.step_count == 1
    assert pruner.masks is not None
    assert pruner.masks.total_pruned == int(0.2 * toy.numel)


@pytest.mark.parametrize("fused", [False, True])
def test_a_skipped_step_that_is_reported_counts(toy: Any, fused: bool) -> None:
    """So a schedule that ends with the training ends, whatever a GradScaler skips."""
    model = toy.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    pruner = Pruner(model, optimizer, schedule=Gradual(0.9, end=6, initial=0.2))
    scaler, run = torch.amp.GradScaler("cpu", init_scale=64.0), toy.run(model, optimizer, pruner)
    for batch in range(6):
        optimizer.zero_grad()
        loss = toy.loss_at(model, batch)
        scaler.scale(loss * math.inf if batch in (0, 3, 5) else loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if pruner.step_count == batch:
            pruner.skip_step()
        assert pruner.step_count == batch + 1
        run.assert_zero_where_pruned()
    assert run.zeros() == 0.9 * toy.numel
