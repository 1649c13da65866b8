"""Wrappers of optimisers; ZeroRedundancyOptimizer is tested in test_pruner_fsdp.py, timm in tests/integrations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gpmt.core.schedule import Gradual
from gpmt.pruner.pruner import Pruner


def test_optimizer_prepared_by_accelerate(toy: Any) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = toy.model()
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    pruner = Pruner(model, optimizer, schedule=Gradual(0.9, end=3, initial=0.5))
    for batch in range(8):
        with accelerator.accumulate(model):
            accelerator.backward(toy.loss_at(model, batch))
            optimizer.step()
            optimizer.zero_grad()
    assert pruner.step_count == 4
    run = toy.run(accelerator.unwrap_model(model), optimizer, pruner)
    assert run.assert_zero_where_pruned() == 10
    assert run.zeros() == 0.9 * toy.numel
