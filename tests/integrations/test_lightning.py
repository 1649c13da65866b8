"""Lightning's Trainer prunes exactly, keeps zeros zero, and resumes from its own checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

import gpmt
from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot
from gpmt.errors import BudgetError, MaskError
from gpmt.integrations.lightning import PruningCallback

# Lightning 2.6 asks torch for a class that torch 2.14 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


class Module(LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)


class TwoOptimizers(Module):
    automatic_optimization = False
    pruning: PruningCallback

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net[0], self.net[2])]

    def training_step(self, batch: Any, index: int) -> None:
        self.zero_grad()
        self.manual_backward(super().training_step(batch, index))
        for optimizer in self.optimizers():
            optimizer.step()
            masks = self.pruning.pruner.masks or {}
            assert not any(bool(self.get_parameter(name)[~mask].any()) for name, mask in masks.items())


class Watch(Callback):
    """Check the zeros after every batch, and note how many weights are zero after each step."""

    def __init__(self, toy: Any, pruning: PruningCallback) -> None:
        self.toy, self.pruning = toy, pruning
        self.zeros: dict[int, int] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        pruner = self.pruning.pruner
        assert pruner is not None
        assert pruner.step_count == trainer.global_step
        if pruner.masks is not None and trainer.global_step:
            self.toy.assert_zero_where_pruned(pruner, pl_module, trainer.optimizers[0])
        self.zeros[trainer.global_step] = sum(int((w == 0).sum()) for w in weights(pl_module))


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [weight for weight in module.parameters() if weight.ndim == 2]


def fit(
    toy: Any,
    *callbacks: Callback,
    epochs: int,
    module: LightningModule | None = None,
    data: Any = None,
    save: Path | None = None,
    resume: Path | None = None,
    **options: Any,
) -> tuple[Trainer, Module]:
    module = Module(toy.net()) if module is None else module
    folder = save or (resume.parent if resume else None)
    saving = [ModelCheckpoint(folder, "{epoch}", save_top_k=-1)] if folder else []
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[*callbacks, *saving],
        logger=False,
        enable_checkpointing=bool(saving),
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    loader = DataLoader(toy.data() if data is None else data, batch_size=4)
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    return trainer, module


@pytest.mark.parametrize("accumulate", [1, 3])
def test_follows_a_schedule_in_steps(toy: Any, accumulate: int) -> None:
    schedule = Gradual(0.9, end=11, interval=3)
    pruning = PruningCallback(schedule=schedule, min_kept=5)
    watch = Watch(toy, pruning)
    _, module = fit(toy, pruning, watch, epochs=5, accumulate_grad_batches=accumulate)
    for event in schedule.events():
        assert watch.zeros[event.time] == toy.pruned(event.sparsity)
    assert gpmt.verify(module, sparsity=0.9, min_kept=5)
    assert list(module.state_dict()) == ["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]


def test_steps_that_fp16_skips_count(toy: Any) -> None:
    """So a schedule ends with the training, though some steps, the last one too, have infinite gradients."""

    class Overflowing(Module):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return super().training_step(batch, index) * (math.inf if index in (2, 7) else 1.0)

    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    pruning = PruningCallback(schedule=Gradual(0.9, end=16, interval=3), min_kept=5)
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    _, module = fit(toy, pruning, epochs=2, module=Overflowing(toy.net()), plugins=[precision])
    assert scaler.get_scale() == 4.0
    assert pruning.pruner.step_count == 16
    assert gpmt.verify(module, sparsity=0.9, min_kept=5)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 8), (3, 3)])
def test_epochs_are_those_of_the_trainer(toy: Any, accumulate: int, steps: int) -> None:
    """Eight batches by threes are three steps: the last one takes what is left."""
    schedule = Gradual(0.9, end=3, unit="epoch")
    pruning = PruningCallback(schedule=schedule)
    watch = Watch(toy, pruning)
    fit(toy, pruning, watch, epochs=4, accumulate_grad_batches=accumulate)
    for event in schedule.events():
        assert watch.zeros[event.time * steps] == toy.pruned(event.sparsity)
        assert watch.zeros[event.time * steps - 1] < toy.pruned(event.sparsity)


def test_epochs_of_limited_batches(toy: Any) -> None:
    pruning = PruningCallback(schedule=OneShot(0.9, at=2, unit="epoch"))
    watch = Watch(toy, pruning)
    fit(toy, pruning, watch, epochs=3, limit_train_batches=5)
    assert watch.zeros[9] == 0
    assert watch.zeros[10] == 0.9 * toy.numel


def test_given_masks_are_kept_and_resumed(toy: Any, tmp_path: Path) -> None:
    masks = gpmt.plan(Module(toy.net()), sparsity=0.8, allocation="random").masks()
    pruning = PruningCallback(masks=masks)
    _, whole = fit(toy, pruning, Watch(toy, pruning), epochs=2, save=tmp_path)
    _, resumed = fit(toy, PruningCallback(masks=masks), epochs=2, resume=tmp_path / "epoch=0.ckpt")
    toy.assert_same(whole, resumed)
    assert gpmt.verify(whole, masks=masks, sparsity=0.8)


@pytest.mark.parametrize("at", [1, 3])
def test_resumes_from_its_checkpoint(toy: Any, schedule: Any, at: int, tmp_path: Path) -> None:
    settings = {"schedule": schedule, "min_kept": 5}
    whole = PruningCallback(**settings)
    _, expected = fit(toy, whole, epochs=5, save=tmp_path)
    resumed = PruningCallback(**settings)
    _, module = fit(toy, resumed, Watch(toy, resumed), epochs=5, resume=tmp_path / f"epoch={at - 1}.ckpt")
    toy.assert_same(expected, module)
    assert whole.pruner is not None
    assert resumed.pruner is not None
    assert resumed.pruner.masks == whole.pruner.masks
    assert resumed.pruner.step_count == 40
    assert gpmt.verify(module, sparsity=schedule.sparsity, min_kept=5)


def test_average_is_pruned_with_the_model(toy: Any, tmp_path: Path) -> None:
    """Lightning copies the average into the module at the end of training; every weight of it must be sparse."""
    settings = {"schedule": Gradual(0.9, end=4, unit="epoch"), "min_kept": 5}
    _, whole = fit(toy, EMAWeightAveraging(decay=0.9), PruningCallback(**settings), epochs=5, save=tmp_path)
    assert gpmt.verify(whole, sparsity=0.9, min_kept=5)
    resume = tmp_path / "epoch=2.ckpt"
    _, module = fit(toy, EMAWeightAveraging(decay=0.9), PruningCallback(**settings), epochs=5, resume=resume)
    toy.assert_same(whole, module)


def test_second_fit_of_a_trainer_goes_on(toy: Any) -> None:
    schedule = Gradual(0.9, end=4, unit="epoch")
    pruning = PruningCallback(schedule=schedule)
    watch = Watch(toy, pruning)
    with pytest.warns(gpmt.GpmtWarning, match="training ended after 16 of the 32 steps of the schedule"):
        trainer, module = fit(toy, pruning, watch, epochs=2)
    first = pruning.pruner
    trainer.fit_loop.max_epochs = 5
    trainer.fit(module, DataLoader(toy.data(), batch_size=4))
    assert pruning.pruner is not first
    for event in schedule.events():
        assert watch.zeros[event.time * 8] == toy.pruned(event.sparsity)
    assert watch.zeros[17] == watch.zeros[16]
    assert gpmt.verify(module, sparsity=0.9)


def test_another_trainer_starts_anew(toy: Any) -> None:
    pruning = PruningCallback(schedule=OneShot(0.9, at=4))
    fit(toy, pruning, epochs=1)
    _, module = fit(toy, pruning, epochs=1)
    assert pruning.pruner is not None
    assert pruning.pruner.step_count == 8
    assert gpmt.verify(module, sparsity=0.9)


def test_dense_run_goes_on_with_pruning(toy: Any, tmp_path: Path) -> None:
    fit(toy, epochs=2, save=tmp_path)
    pruning = PruningCallback(schedule=OneShot(0.9, at=8))
    _, module = fit(toy, pruning, epochs=4, resume=tmp_path / "epoch=1.ckpt")
    assert pruning.pruner is not None
    assert pruning.pruner.step_count == 16
    assert gpmt.verify(module, sparsity=0.9)


def test_state_that_was_loaded_is_kept_until_training_starts(toy: Any) -> None:
    pruning = PruningCallback(schedule=OneShot(0.9))
    assert pruning.state_dict() == {}
    pruning.load_state_dict({"version": 1})
    assert pruning.state_dict() == {"version": 1}


def test_settings_reach_the_pruner(toy: Any) -> None:
    _, module = fit(toy, PruningCallback(schedule=OneShot(0.5), exclude="net.0"), epochs=1)
    assert [int((weight == 0).sum()) for weight in weights(module)] == [0, 80]


def test_other_settings_are_refused(toy: Any, tmp_path: Path) -> None:
    fit(toy, PruningCallback(schedule=OneShot(0.9), min_kept=5), epochs=1, save=tmp_path)
    with pytest.raises(MaskError, match=r"saved with schedule=.*'9/10'.*make it with the settings"):
        fit(
            toy,
            PruningCallback(schedule=OneShot(0.8), min_kept=5),
            epochs=2,
            resume=tmp_path / "epoch=0.ckpt",
        )


def test_several_optimizers_are_pruned_together(toy: Any) -> None:
    module = TwoOptimizers(toy.net())
    module.pruning = PruningCallback(schedule=Gradual(0.9, end=2, unit="epoch"), min_kept=5)
    fit(toy, module.pruning, epochs=3, module=module)
    assert module.pruning.pruner is not None
    assert module.pruning.pruner.step_count == 3 * 8
    assert gpmt.verify(module, sparsity=0.9, min_kept=5)


def test_a_schedule_longer_than_the_training_is_a_warning(toy: Any) -> None:
    with pytest.warns(gpmt.GpmtWarning, match="training ended after 8 of the 24 steps of the schedule"):
        fit(toy, PruningCallback(schedule=Gradual(0.9, end=3, unit="epoch")), epochs=1)


class Endless(IterableDataset):  # type: ignore[type-arg]
    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Any:
        return iter(self.data)


def test_data_without_a_length_needs_steps_per_epoch(toy: Any) -> None:
    schedule = ACDC(0.8, start=1, period=2, sparse=1, last_restore=2, end=3)
    data = Endless(toy.data())
    with pytest.raises(BudgetError, match=r"steps_per_epoch is None, .*give the number of optimiser steps"):
        fit(toy, PruningCallback(schedule=schedule), epochs=4, data=data)
    _, module = fit(toy, PruningCallback(schedule=schedule, steps_per_epoch=8), epochs=4, data=data)
    assert gpmt.verify(module, sparsity=0.8)
