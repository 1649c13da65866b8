"""Runs in fp16, with Accelerate's scaler on a CPU: gradients are scaled, and steps are left out, as on a GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.training.run.runs import PLAIN_NETWORK, same_weights, short_recipe, weights
from torch.optim import Adam

from gpmt.extras_private import reset_accelerator_state
from gpmt.masks import Masks
from gpmt.training.run import phase
from gpmt.training.run import run as run_module
from gpmt.training.run.run import run


@pytest.fixture
def fp16(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that has runs scale their gradients from a given scale on; Accelerate itself needs a GPU for it."""
    made = run_module.make_accelerator

    def scaled_from(scale: float) -> list[Accelerator]:
        accelerators = []

        def make(recipe: Any) -> Accelerator:
            accelerator = made(recipe)
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, backoff_factor=2.0**-40)
            accelerator.native_amp = True
            accelerator.state._mixed_precision = "fp16"
            monkeypatch.setattr(accelerator, "autocast", lambda: torch.autocast("cpu", enabled=False))
            accelerators.append(accelerator)
            return accelerator

        monkeypatch.setattr(run_module, "make_accelerator", make)
        return accelerators

    yield scaled_from
    reset_accelerator_state()


def test_gradients_are_unscaled_once_in_both_phases(fp16: Any, tmp_path: Path):
    """Clipping at a norm that no gradient has changes nothing, though Accelerate then unscales by itself."""
    recipe = [PLAIN_NETWORK, "finetune.epochs=1", "dense.epochs=1"]
    fp16(64.0)
    run(short_recipe(*recipe), tmp_path / "plain")
    run(short_recipe(*recipe, "dense.clip_norm=1e9", "finetune.clip_norm=1e9"), tmp_path / "clipped")
    assert same_weights(tmp_path / "plain/dense.pt", tmp_path / "clipped/dense.pt")
    assert same_weights(tmp_path / "plain/model.pt", tmp_path / "clipped/model.pt")


def test_the_dense_phase_leaves_neither_optimiser_nor_momentum(fp16: Any, tmp_path: Path, monkeypatch):
    accelerators, seen, dense = fp16(64.0), [], []
    train = phase.Phase.train

    def noted(self: phase.Phase) -> None:
        seen.append(len(accelerators[0]._optimizers))
        train(self)
        dense.append(self.optimizer)

    monkeypatch.setattr(phase.Phase, "train", noted)
    run(short_recipe(PLAIN_NETWORK, "finetune.epochs=1", "dense.epochs=1"), tmp_path / "run")
    assert seen == [1, 1]
    assert [len(optimizer.state) for optimizer in dense] == [0, 4]


@pytest.mark.parametrize("fused", [False, True])
def test_a_schedule_to_the_last_epoch_ends_though_steps_are_left_out(
    fp16: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fused: bool
):
    """A fused optimiser is called for these steps too, and leaves them out by itself."""
    monkeypatch.setattr(
        phase, "make_optimizer", lambda model, settings: Adam(model.parameters(), lr=settings.lr, fused=fused)
    )
    accelerators = fp16(2.0**127)  # the scaled loss is infinite in float32, some steps long
    recipe = short_recipe(
        PLAIN_NETWORK, "dense.epochs=0", "schedule=gradual", "end=4", "finetune.epochs=4", "finetune.lr=0.01"
    )
    metrics = run(recipe, tmp_path / "run")
    assert accelerators[0].scaler.get_scale() < 2.0**127, "the first step was left out"
    assert metrics["history"]["finetune"][1]["train"]["loss"] < 2.29, "others were not"
    masks = Masks.load(tmp_path / "run/masks.safetensors")
    assert masks.total_pruned == masks.total_numel * 93 // 100
    assert metrics["verification"]["ok"]
    assert [row["sparsity"] for row in metrics["history"]["finetune"][1:]][-1] == metrics["sparsity"]
    written = weights(tmp_path / "run/model.pt")
    assert all(not written[name][~masks[name]].any() for name in masks)
