"""One phase of a run: epochs of training, each followed by an evaluation and a saved state."""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gpmt.errors import RecipeError, WeightsError
from gpmt.extras_private import forget_optimizer
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.pruner.pruner import Pruner
from gpmt.runs.log import NOT_FINITE
from gpmt.terminal.durations import duration
from gpmt.training.recipes.schema import Dense, Finetune, Training
from gpmt.training.run.batch_norms import recalibrate_on
from gpmt.training.run.learning_rates import chosen_rates, given_rates, relative_change, squared_norm
from gpmt.training.run.loop import train_epoch
from gpmt.training.run.objective import Objective
from gpmt.training.run.optimizer import make_optimizer
from gpmt.training.run.pruning import make_cram, make_pruning
from gpmt.training.run.setup import Setup
from gpmt.training.run.states import (
    load_model_state,
    load_optimizer_state,
    model_state,
    optimizer_state,
)

PHASES = ("dense", "finetune")


class Phase:
    """A phase in progress.

    With the `state` that `save_state` wrote in the same phase it goes on from there; without one it starts with
    the weights that the network has.

    Attributes:
        cram: trains a dense network for one-shot pruning; None where it is trained plainly, and in fine-tuning.
        pruner: prunes while this phase trains; None in a phase that does not prune.
        progress: one phrase for how far it got.
    """

    def __init__(self, setup: Setup, name: str, settings: Training, state: dict[str, Any] | None) -> None:
        self.setup, self.name, self.settings = setup, name, settings
        self.progress = f"before the first epoch of {name}"
        self.history: list[dict[str, Any]] = setup.record["history"][name]
        optimizer = make_optimizer(setup.model, settings)
        self.optimizer = setup.accelerator.prepare_optimizer(optimizer)
        self.average = self._make_average()
        self.objective = self._make_objective()
        self.rates = given_rates(settings)
        self.cram = make_cram(setup, self.optimizer) if isinstance(settings, Dense) else None
        self.pruner = self._make_pruner(fresh=state is None)
        if self.pruner is not None and self.average is not None:
            self.pruner.track(self.average)
        if state is not None:
            self._load(state)
        self._pruner_steps = 0 if self.pruner is None else self.pruner.step_count

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and written: the running average if there is one, else the trained one."""
        if self.average is None:
            return self.setup.network
        averaged: nn.Module = self.average.module
        return averaged

    def train(self) -> None:
        """Train from the next epoch to the last."""
        if not self.history:
            self._evaluate_start()
            self.save_state()
        for epoch in range(len(self.history), self.settings.epochs + 1):
            self.progress = f"in epoch {epoch} of {self.settings.epochs} of {self.name}"
            start = time.monotonic()
            row = self._epoch(epoch)
            row["seconds"] = time.monotonic() - start
            self.setup.record["seconds"][self.name] += row["seconds"]
            self.history.append(row)
            self._record_best(row)
            self.save_state()
            if self.setup.accelerator.is_main_process:
                self.setup.folder.log_history(self.setup.record["history"])
                self.setup.publish()
            if (self.name, epoch) != (PHASES[-1], self.settings.epochs):
                self.setup.time_budget.count_epoch(self.setup.accelerator)

    def finish(self) -> None:
        """End the method of pruning after the last epoch: what is written is a plain sparse network."""
        if self.pruner is not None:
            self.pruner.finish()

    def release(self) -> None:
        """Let go of the optimiser at the end of the phase: of its memory, and of its place in Accelerate."""
        forget_optimizer(self.setup.accelerator, self.optimizer)
        self.optimizer.state.clear()

    def save_state(self) -> None:
        """Write the state from which a resumed run goes on."""
        setup = self.setup
        model, optimizer = model_state(setup.network), optimizer_state(setup.network, self.optimizer)
        scaler = setup.accelerator.scaler
        if setup.accelerator.is_main_process:
            setup.folder.save_state(
                {
                    "phase": self.name,
                    "record": setup.record,
                    "model": model,
                    "optimizer": optimizer,
                    "average": None if self.average is None else self.average.state_dict(),
                    "scaler": None if scaler is None else scaler.state_dict(),
                    "cram": None if self.cram is None else self.cram.state_dict(),
                    "pruner": None if self.pruner is None else self.pruner.state_dict(),
                }
            )

    def _load(self, state: dict[str, Any]) -> None:
        network, scaler = self.setup.network, self.setup.accelerator.scaler
        load_optimizer_state(network, self.optimizer, state["optimizer"])
        load_model_state(network, state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if scaler is not None and state["scaler"] is not None:
            scaler.load_state_dict(state["scaler"])
        if self.cram is not None:
            self.cram.load_state_dict(state["cram"])
        if self.pruner is not None:  # last, because making it pruned
            self.pruner.load_state_dict(state["pruner"])

    def _evaluate_start(self) -> None:
        """Evaluate before the first epoch, and again once the batch norms are recalibrated."""
        setup, images = self.setup, 0
        if self.pruner is not None:
            self._record_plan()
            images = setup.recipe.prune.recalibration
        row: dict[str, Any] = {"epoch": 0, "test": asdict(score := setup.evaluate(self.evaluated))}
        setup.reporter.line(f"{self.name} before training: {score}")
        if images := recalibrate_on(setup.network, setup.source, images):
            if self.average is not None:
                self.average.module.load_state_dict(setup.network.state_dict())
            row["recalibrated"] = asdict(score := setup.evaluate(self.evaluated))
            setup.reporter.line(f"batch norms recalibrated on {images:,} images: {score}")
        self.history.append(row)

    def _epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch (counted from 1) and evaluate; returns its row of the history."""
        setup, settings = self.setup, self.settings
        title = f"{self.name} epoch {epoch}/{settings.epochs}"
        start = time.monotonic()
        try:
            with setup.reporter.bar(title, setup.source.train_size) as advance:
                trained = train_epoch(
                    setup.model,
                    self.optimizer,
                    setup.source,
                    setup.accelerator,
                    settings=settings,
                    rates=self.rates,
                    epoch=epoch - 1,
                    objective=self.objective,
                    cram=self.cram,
                    seed=(setup.recipe.seed, PHASES.index(self.name), epoch),
                    advance=advance,
                    after_step=self._after_step,
                    memory_format=setup.memory_format,
                )
        except WeightsError as error:
            # Pruning came upon weights that are not finite before the loss of the epoch was known.
            if all(bool(parameter.isfinite().all()) for parameter in setup.model.parameters()):
                raise
            raise self._diverged("nan", epoch) from error
        rate = trained.images / (time.monotonic() - start)
        if not math.isfinite(trained.loss):
            raise self._diverged(str(trained.loss), epoch)
        tested = setup.evaluate(self.evaluated)
        lr = self.optimizer.param_groups[0]["lr"]
        row = {"epoch": epoch, "lr": lr, "train": asdict(trained), "test": asdict(tested)}
        sparsity = ""
        if self.pruner is not None:
            self._record_plan()
            masks = self.pruner.masks
            row["sparsity"] = 0.0 if masks is None else masks.sparsity
            sparsity = f"sparsity {row['sparsity']:.2%}, "
        setup.reporter.line(
            f"{title}: lr {lr:.4g}, {sparsity}train loss {trained.loss:.4f}, top-1 {trained.top1:.2%}; "
            f"test {tested}; {rate:,.0f} images/s{self._remaining(epoch, time.monotonic() - start)}"
        )
        return {**row, "images_per_second": rate}

    def _remaining(self, epoch: int, seconds: float) -> str:
        left = (self.settings.epochs - epoch) * seconds
        return "" if epoch == self.settings.epochs else f"; {duration(left)} left of {self.name}"

    def _after_step(self) -> None:
        if self.pruner is not None:
            if self.pruner.step_count == self._pruner_steps:  # infinite gradients, which fp16 leaves out
                self.pruner.skip_step()
            self._pruner_steps = self.pruner.step_count
        if self.average is not None:
            self.average.update_parameters(self.setup.network)

    def _diverged(self, loss: str, epoch: int) -> RecipeError:
        return RecipeError(
            f"{NOT_FINITE} {loss} in epoch {epoch} of {self.name}; lower {self.name}.lr, which is {self.settings.lr}"
        )

    def _record_plan(self) -> None:
        """Record the plan in force, and report it when it is a new one."""
        pruner, record = self.pruner, self.setup.record
        if pruner is None or pruner.plan is None:
            return
        plan = pruner.plan.to_dict()
        if record["plan"] != plan:
            record["plan"] = plan
            self.setup.reporter.line(pruner.plan.summary())

    def _record_best(self, row: dict[str, Any]) -> None:
        """Write the weights if this epoch is the best of those with the final masks."""
        if self.pruner is None or not self.pruner.finished:
            return
        record, top1 = self.setup.record, row["test"]["top1"]
        if record["best"] is None or top1 > record["best"]["top1"]:
            record["best"] = {"epoch": row["epoch"], "top1": top1}
            self.write(self.setup.folder.best)

    def write(self, path: Path) -> None:
        """Write the weights that are evaluated, and which network and data they belong to."""
        setup = self.setup
        weights = model_state(self.evaluated)
        if setup.accelerator.is_main_process:
            source = setup.source
            about = {
                "model": {"name": setup.recipe.model, "num_classes": len(source.classes)},
                "classes": list(source.classes),
                "input_shape": list(source.input_shape),
                "plan": setup.record["plan"],
            }
            setup.folder.save_weights(path, weights, about)

    def _make_average(self) -> AveragedModel | None:
        if self.settings.ema is None:
            return None
        copy = self.setup.fresh_network()
        copy.load_state_dict(self.setup.network.state_dict())
        mean = get_ema_multi_avg_fn(self.settings.ema)  # type: ignore[no-untyped-call]
        return AveragedModel(copy, multi_avg_fn=mean, use_buffers=True)

    def _make_objective(self) -> Objective:
        settings = self.settings
        if not isinstance(settings, Finetune) or not settings.distill:
            return Objective(settings.label_smoothing)
        teacher = self.setup.fresh_network().eval().requires_grad_(False)
        teacher.load_state_dict(load_checkpoint(self.setup.folder.dense).state_dict)
        return Objective(settings.label_smoothing, teacher, settings.distill, settings.temperature)

    def _make_pruner(self, *, fresh: bool) -> Pruner | None:
        """Return the pruner, which may prune, and set the learning rates that follow from it."""
        if not isinstance(self.settings, Finetune):
            return None
        setup, record = self.setup, self.setup.record
        automatic = self.settings.lr == "auto"
        schedule, method = make_pruning(setup.recipe, setup.source)
        before = squared_norm(setup.network) if automatic and fresh else 0.0
        start = time.monotonic()
        pruner = Pruner(setup.model, self.optimizer, schedule=schedule, method=method, **setup.pruning)
        record["seconds"]["prune"] = time.monotonic() - start
        if not automatic:
            self.rates = given_rates(self.settings, schedule)
            return pruner
        if fresh:
            masks = pruner.masks
            sparsity = 0.0 if masks is None else masks.sparsity
            record["change"] = relative_change(before, squared_norm(setup.network), sparsity)
        self.rates = chosen_rates(setup.recipe, record["change"])
        record["learning_rate"] = self.rates.words
        setup.reporter.line(f"learning rates of {self.name}: {self.rates.words}")
        return pruner
