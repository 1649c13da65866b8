"""The demo: global pruning without and with a minimum per layer on scikit-learn's digits."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from gpmt.core.budget.budget import Ratio
from gpmt.core.schedule.schedule import OneShot
from gpmt.errors import BudgetError
from gpmt.html_tables import html_table
from gpmt.planning.decide import decide
from gpmt.planning.rows import TensorPlan
from gpmt.pruner.pruner import Pruner
from gpmt.report.content.subject import Layer
from gpmt.training.data import datasets
from gpmt.training.data.source import Source
from gpmt.training.models import construct
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.schema import Training
from gpmt.training.run.batch_norms import recalibrate_on
from gpmt.training.run.loop import evaluate, seed_everything, train_epoch
from gpmt.training.run.objective import Objective
from gpmt.training.run.optimizer import make_optimizer
from gpmt.training.run.progress import Reporter
from gpmt.verification import verify
from gpmt.warning import GpmtWarning

RECIPE = load_recipe("digits")
"""The demo trains as `gpmt run digits` does; only its sparsities are its own."""

SPARSITIES = (0.8, 0.9, 0.93, 0.95)
MIN_KEPT = RECIPE.prune.min_kept
DENSE = RECIPE.dense
FINETUNE = RECIPE.finetune

NOISE = 0.02
"""Accuracies that differ by no more count as equal: 7 of the 355 test images."""


@dataclass(frozen=True)
class Outcome:
    """One pruned and fine-tuned network: counts of weights and layers, and accuracies as fractions.

    `dead` is the number of layers that keep no weight. `sparsest` is the layer that keeps the smallest share;
    `layers` are all of them, as a report tells of them.
    """

    min_kept: int
    kept: int
    dead: int
    sparsest: str
    sparsest_kept: int
    sparsest_weights: int
    accuracy_pruned: float
    accuracy_finetuned: float
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Level:
    """Both methods at one sparsity: GP, global pruning alone, and GP+MT, with a minimum for every layer."""

    sparsity: float
    gp: Outcome
    gp_mt: Outcome

    @property
    def gain(self) -> float:
        """Accuracy with the minimum minus accuracy without it, after fine-tuning."""
        return self.gp_mt.accuracy_finetuned - self.gp.accuracy_finetuned

    def __str__(self) -> str:
        return (
            f"at {percent(self.sparsity)} GP reaches {percent(self.gp.accuracy_finetuned)} and "
            f"GP+MT {percent(self.gp_mt.accuracy_finetuned)}"
        )


@dataclass(frozen=True)
class Comparison:
    """The measurements of the demo; `weights` and `layers` count what can be pruned."""

    seed: int
    weights: int
    layers: int
    images: dict[str, int]
    epochs: dict[str, int]
    accuracy_dense: float
    levels: tuple[Level, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return all measurements as plain values, ready for JSON, with their summary in words."""
        document = asdict(self)
        for level in document["levels"]:
            del level["gp"]["layers"], level["gp_mt"]["layers"]
        return {**document, "reading": self.reading()}

    def _repr_html_(self) -> str:
        rows = [
            [
                percent(level.sparsity),
                method,
                outcome.kept,
                outcome.dead,
                percent(outcome.accuracy_pruned),
                percent(outcome.accuracy_finetuned),
            ]
            for level in self.levels
            for method, outcome in (("GP", level.gp), ("GP+MT", level.gp_mt))
        ]
        return html_table(
            ["sparsity", "method", "kept", "dead layers", "top-1 pruned", "fine-tuned"],
            rows,
            title=f"dense {percent(self.accuracy_dense)}",
            notes=[self.reading()],
        )

    def reading(self) -> str:
        """Say where the minimum helps most, and where it makes no difference or lowers the accuracy."""
        sentences = []
        best = max(self.levels, key=lambda level: level.gain)
        if best.gain > NOISE:
            gp, floor = best.gp, best.gp_mt.min_kept
            left = f"{gp.sparsest} with {gp.sparsest_kept:,} of its {gp.sparsest_weights:,} weights"
            left += f" and {gp.dead} of {self.layers} layers with none" if gp.dead else ""
            sentences.append(
                f"At {percent(best.sparsity)} GP leaves {left}, and reaches {percent(gp.accuracy_finetuned)}; "
                f"with at least {floor:,} weights in every layer it is "
                f"{percent(best.gp_mt.accuracy_finetuned)}."
            )
        for found, verdict in (
            ([level for level in self.levels if abs(level.gain) <= NOISE], "no difference beyond noise"),
            ([level for level in self.levels if level.gain < -NOISE], "it worse"),
        ):
            if found:
                sentences.append(f"The minimum makes {verdict}: {'; '.join(map(str, found))}.")
        return " ".join(sentences)


def compare(
    *,
    seed: int = 0,
    sparsities: Sequence[Ratio] = SPARSITIES,
    min_kept: int | str = MIN_KEPT,
    dense: Training = DENSE,
    finetune: Training = FINETUNE,
    reporter: Reporter | None = None,
) -> Comparison:
    """Train a small MobileNet, prune it one-shot by GP and by GP+MT at each sparsity, and fine-tune each.

    All start from the same dense network and see the same images in the same order. The accuracies are those of the
    last epoch, on the test images. Nothing is downloaded or written.

    Raises `BudgetError`, before any training, for sparsities and minimum that cannot be met.
    """
    start = time.monotonic()
    reporter = reporter or Reporter()
    accelerator = Accelerator()
    source = datasets.load("digits", root=None).placed(accelerator.device, rank=0, processes=1)
    seed_everything((seed,))
    network = construct(RECIPE.model, num_classes=len(source.classes), input_shape=source.input_shape)
    network.to(accelerator.device).to(memory_format=torch.channels_last)
    plans = decide(network, sparsities, min_kept=min_kept)
    floor = plans[0].min_kept
    if floor is None:
        raise BudgetError(
            f"min_kept is {min_kept!r}, but the demonstration has one number for every layer; give it"
        )
    trainer = _Trainer(source, accelerator, reporter, seed)

    trainer.train(network, make_optimizer(network, dense), dense, "dense training")
    accuracy = trainer.accuracy(network)
    reporter.line(f"dense network: {percent(accuracy)} of {source.test_size} test images right")
    levels = []
    for wanted in plans:
        sparsity = float(wanted.sparsity)
        outcomes = []
        for method, kept in (("GP", 0), ("GP+MT", floor)):
            title = f"{method} at {percent(sparsity)}"
            outcome = trainer.outcome(network, wanted.sparsity, kept, finetune, f"{title}: fine-tuning")
            reporter.line(
                f"{title}: {percent(outcome.accuracy_pruned)} pruned, "
                f"{percent(outcome.accuracy_finetuned)} fine-tuned"
            )
            outcomes.append(outcome)
        levels.append(Level(sparsity, *outcomes))
    return Comparison(
        seed=seed,
        weights=plans[0].numel,
        layers=len(plans[0].tensors),
        images={"train": source.train_size, "test": source.test_size},
        epochs={"dense": dense.epochs, "finetune": finetune.epochs},
        accuracy_dense=accuracy,
        levels=tuple(levels),
        seconds=time.monotonic() - start,
    )


def percent(fraction: float) -> str:
    """Format a fraction for reading.

    >>> percent(0.9), percent(0.98603)
    ('90 %', '98.6 %')
    """
    return f"{round(100 * fraction, 1):g} %"


def _layer(row: TensorPlan) -> Layer:
    return Layer(row.name, row.name, row.kind, row.shape, row.numel, row.kept, row.floor, row.binds)


@dataclass(frozen=True)
class _Trainer:
    """Trains, prunes and evaluates networks on the same data."""

    source: Source
    accelerator: Accelerator
    reporter: Reporter
    seed: int

    def outcome(
        self, dense: nn.Module, sparsity: Ratio, min_kept: int, settings: Training, title: str
    ) -> Outcome:
        """Prune a copy of the dense network, fine-tune it, and count its weights."""
        network = copy.deepcopy(dense)
        optimizer = make_optimizer(network, settings)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", GpmtWarning
            )  # the comparison shows the layers that are lost itself
            plan = Pruner(network, optimizer, schedule=OneShot(sparsity), min_kept=min_kept).plan
        pruned = self.accuracy(network)
        recalibrate_on(network, self.source, RECIPE.prune.recalibration)
        self.train(network, optimizer, settings, title)
        tensors = verify(network).tensors
        sparsest = min(tensors, key=lambda tensor: tensor.density)
        return Outcome(
            min_kept=min_kept,
            kept=sum(tensor.kept for tensor in tensors),
            dead=sum(tensor.dead for tensor in tensors),
            sparsest=sparsest.name.removesuffix(".weight"),
            sparsest_kept=sparsest.kept,
            sparsest_weights=sparsest.numel,
            accuracy_pruned=pruned,
            accuracy_finetuned=self.accuracy(network),
            layers=() if plan is None else tuple(map(_layer, plan.tensors)),
        )

    def train(self, network: nn.Module, optimizer: Optimizer, settings: Training, title: str) -> None:
        """Train for all epochs of `settings`."""
        with self.reporter.bar(title, settings.epochs * self.source.train_size) as advance:
            for epoch in range(settings.epochs):
                train_epoch(
                    network,
                    optimizer,
                    self.source,
                    self.accelerator,
                    settings=settings,
                    epoch=epoch,
                    objective=Objective(settings.label_smoothing),
                    seed=(self.seed, epoch),
                    advance=advance,
                )

    def accuracy(self, network: nn.Module) -> float:
        """Return the share of the test images that the network gets right."""
        return evaluate(network, self.source, self.accelerator, advance=lambda images: None).top1
