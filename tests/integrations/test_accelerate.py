"""Accelerate saves and loads a Pruner with everything else, and accumulated batches do not advance it."""

from __future__ import annotations

from typing import Any

import pytest
from accelerate import Accelerator
from torch.nn import functional as F
from torch.optim import SGD
from torch.utils.data import DataLoader

import gpmt
from gpmt.core.schedule.schedule import Gradual


def start(toy: Any, accumulate: int) -> tuple[Accelerator, Any, Any, Any, gpmt.Pruner]:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = toy.net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(toy.data(), batch_size=4))
    pruner = gpmt.Pruner(model, optimizer, schedule=Gradual(0.9, end=8, interval=2), min_kept=5)
    accelerator.register_for_checkpointing(pruner)
    return accelerator, model, optimizer, loader, pruner


def train(accelerator: Accelerator, model: Any, optimizer: Any, loader: Any, pruner: gpmt.Pruner) -> None:
    for images, labels in loader:
        with accelerator.accumulate(model):
            accelerator.backward(F.cross_entropy(model(images), labels))
            optimizer.step()
            optimizer.zero_grad()
        if pruner.masks is not None:
            toy_check = accelerator.unwrap_model(model)
            for name, mask in pruner.masks.items():
                assert not toy_check.get_parameter(name)[~mask].any()


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 8), (3, 3)])
def test_resumes_from_its_checkpoint(toy: Any, tmp_path: Any, accumulate: int, steps: int) -> None:
    whole = start(toy, accumulate)
    train(*whole)
    assert whole[-1].step_count == steps
    whole[0].save_state(str(tmp_path))
    resumed = start(toy, accumulate)
    resumed[0].load_state(str(tmp_path))
    assert resumed[-1].step_count == steps
    assert resumed[-1].masks == whole[-1].masks
    for _ in range(2):
        train(*whole)
        train(*resumed)
    toy.assert_same(whole[1], resumed[1])
    assert gpmt.verify(resumed[1], sparsity=0.9, min_kept=5)
