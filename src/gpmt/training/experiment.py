"""The phases of a run: dense training, then pruning and fine-tuning, each resumable after every epoch."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gpmt.core.schedule import OneShot
from gpmt.core.scope import unwrap
from gpmt.errors import CheckpointError, RecipeError
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.prune import plan
from gpmt.pruner import Pruner
from gpmt.training import datasets
from gpmt.training.data import Source
from gpmt.training.folder import RunFolder
from gpmt.training.loop import evaluate, seed_everything, train_epoch
from gpmt.training.metrics import Score
from gpmt.training.models import build
from gpmt.training.progress import Reporter
from gpmt.training.recipe import Recipe, Training

PHASES = ("dense", "finetune")


class Experiment:
    """Network, data and record of a run in progress.

    Attributes:
        model: the network as the processes train it together.
        source: the data.
        record: what was measured so far: per phase the history (entry 0 is the score before any training in
            the phase) and the seconds; the plan; when and with which commands it was started.
        progress: one phrase for how far the run got.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        accelerator: Accelerator,
        reporter: Reporter,
        *,
        state: dict[str, Any] | None,
    ) -> None:
        self.recipe, self.folder, self.accelerator, self.reporter = recipe, folder, accelerator, reporter
        self.record: dict[str, Any] = state["record"] if state else _new_record()
        self.progress = "before the first epoch"
        self._state = state
        prune = recipe.prune
        self._budget: dict[str, Any] = {
            "min_kept": prune.min_kept,
            "exclude": prune.exclude,
            "allocation": prune.allocation,
            "seed": recipe.seed,
        }
        self.source = self._load_data()
        seed_everything((recipe.seed,))
        network = build(
            recipe.model, num_classes=len(self.source.classes), input_shape=self.source.input_shape
        )
        if recipe.dense.checkpoint is not None and state is None:
            _load_weights(network, recipe.dense.checkpoint.expanduser(), name=recipe.model)
        # What cannot be met fails now, not after the dense training.
        plan(network, sparsity=prune.sparsity, **self._budget)
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.model: nn.Module = accelerator.prepare(network.to(memory_format=torch.channels_last))

    @property
    def network(self) -> nn.Module:
        """The network without what was wrapped around it."""
        return unwrap(self.model)

    def carry_out(self) -> None:
        """Go through the phases and write the weights and masks."""
        if self._state is None or self._state["phase"] == "dense":
            self._train("dense", self.recipe.dense)
            self._write(self.folder.dense)
        pruner = self._train("finetune", self.recipe.finetune)
        self._write(self.folder.model)
        if pruner is not None and pruner.masks is not None and self.accelerator.is_main_process:
            pruner.masks.save(self.folder.masks)

    def _train(self, phase: str, settings: Training) -> Pruner | None:
        """Train through one phase, from its beginning or from where the state has it."""
        state = self._state if self._state and self._state["phase"] == phase else None
        optimizer = self._optimizer(settings)
        pruner = self._prune(optimizer) if phase == "finetune" else None
        if state:  # after the Pruner was made, since making it prunes
            self.network.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            if pruner is not None:
                pruner.load_state_dict(state["pruner"])
        history = self.record["history"][phase]
        if not history:
            score = self._evaluate()
            history.append({"epoch": 0, "test": asdict(score)})
            self.reporter.line(f"{phase} before training: {score}")
            self._save_state(phase, optimizer, pruner)
        for epoch in range(len(history), settings.epochs + 1):
            self.progress = f"in epoch {epoch} of {settings.epochs} of {phase}"
            start = time.monotonic()
            row = self._epoch(phase, settings, optimizer, epoch)
            row["seconds"] = time.monotonic() - start
            self.record["seconds"][phase] += row["seconds"]
            history.append(row)
            self._save_state(phase, optimizer, pruner)
        return pruner

    def _epoch(self, phase: str, settings: Training, optimizer: Optimizer, epoch: int) -> dict[str, Any]:
        """Train one epoch (counted from 1) and evaluate; returns its row of the history."""
        lr = settings.learning_rate(epoch - 1)
        for group in optimizer.param_groups:
            group["lr"] = lr
        title = f"{phase} epoch {epoch}/{settings.epochs}"
        start = time.monotonic()
        with self.reporter.bar(title, self.source.train_size) as advance:
            trained = train_epoch(
                self.model,
                optimizer,
                self.source,
                self.accelerator,
                batch_size=settings.batch_size,
                label_smoothing=settings.label_smoothing,
                seed=(self.recipe.seed, PHASES.index(phase), epoch),
                advance=advance,
            )
        rate = trained.images / (time.monotonic() - start)
        if not math.isfinite(trained.loss):
            raise RecipeError(
                f"the loss became {trained.loss} in epoch {epoch} of {phase}; "
                f"lower {phase}.lr, which is {settings.lr:g}"
            )
        tested = self._evaluate()
        self.reporter.line(
            f"{title}: lr {lr:.4g}, train loss {trained.loss:.4f}, top-1 {trained.top1:.2%}; test {tested}; "
            f"{rate:,.0f} images/s"
        )
        row = {"epoch": epoch, "lr": lr, "train": asdict(trained), "test": asdict(tested)}
        return {**row, "images_per_second": rate}

    def _prune(self, optimizer: Optimizer) -> Pruner:
        start = time.monotonic()
        schedule = OneShot(self.recipe.prune.sparsity)
        pruner = Pruner(self.model, optimizer, schedule=schedule, **self._budget)
        if not self.record["plan"] and pruner.plan is not None:
            self.record["plan"] = pruner.plan.to_dict()
            self.record["seconds"]["prune"] = time.monotonic() - start
            self.reporter.line(pruner.plan.summary())
        return pruner

    def _optimizer(self, settings: Training) -> Optimizer:
        optimizer = SGD(
            self.model.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
        prepared: Optimizer = self.accelerator.prepare(optimizer)
        return prepared

    def _evaluate(self) -> Score:
        if self.accelerator.num_processes > 1:
            # Running means differ between processes; those of the first are the ones saved.
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)
        with self.reporter.bar("evaluation", self.source.test_size) as advance:
            return evaluate(self.network, self.source, self.accelerator, advance=advance)

    def _save_state(self, phase: str, optimizer: Optimizer, pruner: Pruner | None) -> None:
        if self.accelerator.is_main_process:
            self.folder.save_state(
                {
                    "phase": phase,
                    "record": self.record,
                    "model": self.network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "pruner": None if pruner is None else pruner.state_dict(),
                }
            )

    def _write(self, path: Path) -> None:
        if self.accelerator.is_main_process:
            about = {
                "model": {"name": self.recipe.model, "num_classes": len(self.source.classes)},
                "classes": list(self.source.classes),
                "input_shape": list(self.source.input_shape),
                "plan": self.record["plan"],
            }
            self.folder.save_weights(path, self.network.state_dict(), about)

    def _load_data(self) -> Source:
        data = self.recipe.data
        loaded = datasets.load(
            data.name,
            root=data.root,
            mean=data.mean,
            std=data.std,
            crop_padding=data.crop_padding,
            flip=data.flip,
            track=self.reporter.track,
        )
        accelerator = self.accelerator
        return loaded.placed(
            accelerator.device, rank=accelerator.process_index, processes=accelerator.num_processes
        )


def _new_record() -> dict[str, Any]:
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commands": [],
        "plan": None,
        "history": {phase: [] for phase in PHASES},
        "seconds": {"dense": 0.0, "prune": 0.0, "finetune": 0.0},
    }


def _load_weights(network: nn.Module, path: Path, *, name: str) -> None:
    """Load a checkpoint whose names and shapes are those of the network, or raise CheckpointError."""
    weights: Mapping[str, Tensor] = load_checkpoint(path).state_dict
    own = network.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    unknown = [key for key in weights if key not in own]
    if missing or unknown:
        key, problem = (missing[0], "lacks") if missing else (unknown[0], "has, beside what is needed,")
        count = len(missing) + len(unknown)
        raise CheckpointError(
            f"{path} {problem} {key} ({count} names differ), so it is not a checkpoint of {name}; "
            "give one of the same network, or change model"
        )
    for key, tensor in own.items():
        if key in weights and weights[key].shape != tensor.shape:
            raise CheckpointError(
                f"{path} has {key} of shape {tuple(weights[key].shape)}, but {name} for these data has "
                f"{tuple(tensor.shape)}; check model and the number of classes"
            )
    network.load_state_dict(weights, strict=False)
