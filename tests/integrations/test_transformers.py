"""The Trainer of transformers prunes exactly, keeps zeros zero, and resumes from its own checkpoints."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

import gpmt
from gpmt.core.schedule.schedule import Gradual, OneShot
from gpmt.errors import BudgetError, CheckpointError, MaskError
from gpmt.integrations.transformers import PruningCallback


class Model(nn.Module):
    """What the Trainer takes: a dictionary with the loss out of inputs by keyword."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self.net(inputs), labels)}


class Watch(TrainerCallback):
    """Check the zeros after every step, and note how many weights are zero."""

    def __init__(self, toy: Any, pruning: PruningCallback) -> None:
        self.toy, self.pruning = toy, pruning
        self.zeros: dict[int, int] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        pruner = self.pruning.pruner
        assert pruner is not None
        assert pruner.step_count == state.global_step
        if pruner.masks is not None:
            self.toy.assert_zero_where_pruned(pruner, parts["model"], parts["optimizer"].optimizer)
        self.zeros[state.global_step] = zeros(parts["model"])


def zeros(model: nn.Module) -> int:
    return sum(int((weight == 0).sum()) for weight in model.parameters() if weight.ndim == 2)


def trainer(toy: Any, folder: Path, *callbacks: TrainerCallback, data: Any = None, **options: Any) -> Trainer:
    args = TrainingArguments(
        str(folder),
        **{
            "num_train_epochs": 5,
            "per_device_train_batch_size": 4,
            "save_strategy": "no",
            "learning_rate": 0.05,
            "weight_decay": 0.01,
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "use_cpu": True,
            **options,
        },
    )
    samples = [{"inputs": inputs, "labels": label} for inputs, label in toy.data()]
    return Trainer(Model(toy.net()), args, train_dataset=data or samples, callbacks=list(callbacks))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_follows_a_schedule_in_steps(toy: Any, tmp_path: Path, accumulate: int) -> None:
    schedule = Gradual(0.9, end=11, interval=3)
    pruning = PruningCallback(schedule=schedule, min_kept=5)
    watch = Watch(toy, pruning)
    run = trainer(toy, tmp_path, pruning, watch, gradient_accumulation_steps=accumulate)
    run.train()
    for event in schedule.events():
        assert watch.zeros[event.time] == toy.pruned(event.sparsity)
    assert gpmt.verify(run.model, sparsity=0.9, min_kept=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused"])
@pytest.mark.slow
def test_steps_that_fp16_skips_count(toy: Any, tmp_path: Path, optim: str) -> None:
    """So a schedule ends with the training, though some steps, the last one too, have infinite gradients."""
    pruning = PruningCallback(schedule=Gradual(0.9, end=10, interval=3), min_kept=5)
    run = trainer(toy, tmp_path, pruning, Watch(toy, pruning), max_steps=10, optim=optim)
    # On a CPU the Trainer has no fp16, but a scaler that it is given works as on a GPU.
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    factors = iter([math.inf if batch in (2, 5, 9) else 1.0 for batch in range(10)])
    run.model.register_forward_hook(lambda *_: {"loss": _[-1]["loss"] * next(factors)})
    run.train()
    assert run.accelerator.scaler.get_scale() == 8.0
    assert gpmt.verify(run.model, sparsity=0.9, min_kept=5)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 8), (3, 3)])
def test_epochs_are_those_of_the_trainer(toy: Any, tmp_path: Path, accumulate: int, steps: int) -> None:
    """Eight batches by threes are three steps: the last one takes what is left."""
    schedule = Gradual(0.9, end=3, unit="epoch")
    pruning = PruningCallback(schedule=schedule)
    watch = Watch(toy, pruning)
    run = trainer(toy, tmp_path, pruning, watch, gradient_accumulation_steps=accumulate)
    run.train()
    assert run.state.global_step == 5 * steps
    for event in schedule.events():
        assert watch.zeros[event.time * steps] == toy.pruned(event.sparsity)
        assert watch.zeros[event.time * steps - 1] < toy.pruned(event.sparsity)


@pytest.mark.parametrize("at", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_resumes_from_its_checkpoint(toy: Any, schedule: Any, at: int, tmp_path: Path) -> None:
    settings = {"schedule": schedule, "min_kept": 5}
    whole = trainer(toy, tmp_path, PruningCallback(**settings), save_strategy="steps", save_steps=4)
    whole.train()
    for folder in tmp_path.iterdir():
        if int(folder.name.removeprefix("checkpoint-")) > at:
            shutil.rmtree(folder)
    pruning = PruningCallback(**settings)
    resumed = trainer(toy, tmp_path, pruning, Watch(toy, pruning))
    resumed.train(resume_from_checkpoint=True)
    toy.assert_same(whole.model, resumed.model)
    assert pruning.pruner is not None
    assert pruning.pruner.step_count == 40
    assert gpmt.verify(resumed.model, sparsity=schedule.sparsity, min_kept=5)


@pytest.mark.slow
def test_resumes_from_another_folder(toy: Any, tmp_path: Path) -> None:
    settings = {"schedule": OneShot(0.9, at=2)}
    old, new = tmp_path / "old", tmp_path / "new"
    first = trainer(toy, old, PruningCallback(**settings), save_strategy="epoch", num_train_epochs=1)
    first.train()
    checkpoint = str(old / "checkpoint-8")
    with pytest.raises(
        CheckpointError,
        match=r"new/checkpoint-8/pruner\.pt does not exist, but holds the masks at step 8; "
        r"set TrainingArguments\(resume_from_checkpoint=\.\.\.\) to the folder",
    ):
        trainer(toy, new, PruningCallback(**settings)).train(resume_from_checkpoint=checkpoint)
    pruning = PruningCallback(**settings)
    again = trainer(toy, new, pruning, resume_from_checkpoint=checkpoint)
    again.train(resume_from_checkpoint=checkpoint)
    assert pruning.pruner is not None
    assert pruning.pruner.step_count == 40
    assert gpmt.verify(again.model, sparsity=0.9)


@pytest.mark.slow
def test_masks_of_another_checkpoint_are_refused(toy: Any, tmp_path: Path) -> None:
    """Same folder name, same settings, other weights."""
    settings = {"schedule": OneShot(0.9, at=2)}
    old, new = tmp_path / "old", tmp_path / "new"
    options = {"save_strategy": "epoch", "num_train_epochs": 1}
    trainer(toy, old, PruningCallback(**settings), **options).train()
    trainer(toy, new, PruningCallback(**settings), learning_rate=0.5, **options).train()
    run = trainer(toy, new, PruningCallback(**settings))
    with pytest.raises(
        CheckpointError, match=r"pruner\.pt prunes weights of net\.\d\.weight that are not zero"
    ):
        run.train(resume_from_checkpoint=str(old / "checkpoint-8"))


@pytest.mark.slow
def test_second_train_starts_anew(toy: Any, tmp_path: Path) -> None:
    """Also where the first was broken off; the Trainer keeps its optimiser, which then has one Pruner only."""
    pruning = PruningCallback(schedule=OneShot(0.9, at=4))
    run = trainer(toy, tmp_path, pruning, num_train_epochs=1)
    run.train()
    run.train()
    assert pruning.pruner is not None
    assert pruning.pruner.step_count == 8
    assert gpmt.verify(run.model, sparsity=0.9)


def test_a_schedule_longer_than_the_training_is_a_warning(toy: Any, tmp_path: Path) -> None:
    run = trainer(toy, tmp_path, PruningCallback(schedule=OneShot(0.9, at=40)), num_train_epochs=1)
    with pytest.warns(
        gpmt.GpmtWarning, match="after 8 of the 40 steps of the schedule: the network is dense"
    ):
        run.train()


def test_settings_reach_the_pruner(toy: Any, tmp_path: Path) -> None:
    run = trainer(toy, tmp_path, PruningCallback(schedule=OneShot(0.5), exclude="net.0"), num_train_epochs=1)
    run.train()
    assert gpmt.verify(run.model, sparsity=0.5, exclude="net.0")
    assert zeros(run.model) == 80


@pytest.mark.slow
def test_given_masks_are_kept_and_resumed(toy: Any, tmp_path: Path) -> None:
    masks = gpmt.plan(Model(toy.net()), sparsity=0.8, allocation="random").masks()
    pruning = PruningCallback(masks=masks)
    whole = trainer(toy, tmp_path, pruning, Watch(toy, pruning), num_train_epochs=2, save_strategy="epoch")
    whole.train()
    resumed = trainer(toy, tmp_path, PruningCallback(masks=masks), num_train_epochs=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    toy.assert_same(whole.model, resumed.model)
    assert gpmt.verify(whole.model, masks=masks, sparsity=0.8)


@pytest.mark.slow
def test_other_settings_are_refused(toy: Any, tmp_path: Path) -> None:
    trainer(toy, tmp_path, PruningCallback(schedule=OneShot(0.9), min_kept=5), save_strategy="epoch").train()
    with pytest.raises(MaskError, match=r"saved with schedule=.*'9/10'.*make it with the settings"):
        trainer(toy, tmp_path, PruningCallback(schedule=OneShot(0.8), min_kept=5)).train(
            resume_from_checkpoint=True
        )


class Endless(IterableDataset):  # type: ignore[type-arg]
    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Any:
        return ({"inputs": inputs, "labels": label} for inputs, label in self.data)


@pytest.mark.slow
def test_data_without_a_length_needs_steps_per_epoch(toy: Any, tmp_path: Path) -> None:
    schedule = Gradual(0.9, end=2, unit="epoch")
    options = {"data": Endless(toy.data()), "max_steps": 20}
    with pytest.raises(BudgetError, match=r"steps_per_epoch is None, .*give the number of optimiser steps"):
        trainer(toy, tmp_path, PruningCallback(schedule=schedule), **options).train()
    run = trainer(toy, tmp_path, PruningCallback(schedule=schedule, steps_per_epoch=8), **options)
    run.train()
    assert gpmt.verify(run.model, sparsity=0.9)


def test_state_is_saved_safely(toy: Any, tmp_path: Path) -> None:
    trainer(
        toy,
        tmp_path,
        PruningCallback(schedule=OneShot(0.9), min_kept=5),
        save_strategy="epoch",
        num_train_epochs=1,
    ).train()
    state = torch.load(tmp_path / "checkpoint-8" / "pruner.pt", weights_only=True)
    assert state["step_count"] == 8
    assert sorted(path.name for path in (tmp_path / "checkpoint-8").glob("p*")) == ["pruner.pt"]
