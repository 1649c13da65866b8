"""What gpu_accuracy.py runs: the methods that it compares, and one training of a dense or a pruned network."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

import gpmt
from gpmt.atomic import atomic_path
from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot, Schedule
from gpmt.pruner.methods.registry import method_of, methods_by_name
from gpmt.training import models
from gpmt.training.data import datasets
from gpmt.training.data.source import Source
from gpmt.training.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from gpmt.training.weights import load_weights

NETWORK = "resnet20"
FLOOR = "auto"
"""The minimum of every layer where a method has one: 503 of 268,336 weights at 95 %, 201 at 98 %."""
RECALIBRATION = 2560
"""Images on which batch normalisation is measured after one-shot pruning."""


@dataclass(frozen=True)
class Case:
    """A way to prune while training: a schedule for a number of steps, a method, and options of the plan."""

    schedule: Callable[[float, int], Schedule]
    method: str = "hard"
    options: dict[str, Any] = field(default_factory=dict)


def one_shot(sparsity: float, steps: int) -> Schedule:
    return OneShot(sparsity)


def gradual(sparsity: float, steps: int) -> Schedule:
    """Cubic, to the target at half of the steps."""
    return Gradual(sparsity, end=max(1, steps // 2))


def ac_dc(sparsity: float, steps: int) -> Schedule:
    return ACDC.over(sparsity, steps, unit="step")


MT = {"min_kept": FLOOR}
CASES = {
    "GP": Case(one_shot),
    "GP+MT": Case(one_shot, options=MT),
    "gradual": Case(gradual),
    "Feather": Case(gradual, "feather"),
    "ST-3": Case(gradual, "st-3"),
    "AC/DC": Case(ac_dc),
    "AC/DC+HAM": Case(ac_dc, "ham"),
    "gradual+HAM": Case(gradual, "ham"),
    "RigL": Case(one_shot, "rigl", {"allocation": "erk"}),
    "LAMP": Case(one_shot, options={"allocation": "lamp"}),
    "ERK": Case(one_shot, options={"allocation": "erk"}),
    "uniform": Case(one_shot, options={"allocation": "uniform"}),
    "random": Case(one_shot, options={"allocation": "random"}),
    "gradual+MT": Case(gradual, options=MT),
    "Feather+MT": Case(gradual, "feather", MT),
    "ST-3+MT": Case(gradual, "st-3", MT),
    "AC/DC+HAM+MT": Case(ac_dc, "ham", MT),
}


@dataclass(frozen=True)
class Settings:
    """What decides the results, besides case, sparsity and seed.

    Attributes:
        epochs, lr: of pruning and fine-tuning together; a cosine in steps.
        dense_epochs, dense_lr: of the dense training, from scratch or from `checkpoint`.
        train_limit, test_limit: use so many images only.
    """

    data: str
    device: str
    checkpoint: str | None
    dense_epochs: int
    dense_lr: float
    epochs: int
    lr: float
    batch_size: int
    train_limit: int | None
    test_limit: int | None


@dataclass(frozen=True)
class Job:
    """One run: a case at a sparsity with a seed."""

    seed: int
    case: str
    sparsity: float

    def __str__(self) -> str:
        return f"{self.case} at {self.sparsity:.1%}, seed {self.seed}"


def available(job: Job) -> bool:
    """Return whether this gpmt has the method of a job."""
    return CASES[job.case].method in methods_by_name()


@cache
def source_of(settings: Settings) -> Source:
    """Return the data, on the device; read once in each process."""
    source = datasets.load(
        "cifar10",
        root=Path(settings.data),
        train_limit=settings.train_limit,
        test_limit=settings.test_limit,
        crop_padding=4,
        flip=True,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
    return source.placed(torch.device(settings.device), rank=0, processes=1)


def network_of(settings: Settings, file: Path | None) -> nn.Module:
    source = source_of(settings)
    network = models.build(NETWORK, num_classes=len(source.classes), input_shape=source.input_shape)
    if file is not None:
        load_weights(network, file, name=NETWORK)
    placed: nn.Module = network.to(settings.device)
    return placed.to(memory_format=torch.channels_last)


def sgd(network: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    epochs: int,
    seed: tuple[int, ...],
) -> float:
    """Train with a learning rate that falls like half a cosine; return the last loss."""
    source, peak = source_of(settings), float(optimizer.param_groups[0]["lr"])
    total, step, loss = epochs * source.train_steps(settings.batch_size), 0, torch.tensor(0.0)
    network.train()
    for epoch in range(epochs):
        for images, labels in source.train_batches(settings.batch_size, seed=(*seed, epoch)):
            for group in optimizer.param_groups:
                group["lr"] = peak * 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
    return float(loss.detach())


@torch.no_grad()
def top1(network: nn.Module, settings: Settings) -> float:
    """Return the share of the test images that are classified right, in percent."""
    network.eval()
    hits, source = torch.zeros((), device=settings.device), source_of(settings)
    for images, labels in source.test_batches(1000):
        hits += (network(images).argmax(1) == labels).sum()
    return 100 * float(hits) / int(source.test_size)


def prepare() -> None:
    """Silence warnings of tensors that keep next to nothing, as they shall."""
    warnings.simplefilter("ignore", gpmt.GpmtWarning)


def prepare_process() -> None:
    """Set what each of several processes needs before its first run."""
    torch.set_num_threads(1)
    prepare()


def train_dense(settings: Settings, file: Path) -> dict[str, Any]:
    """Train the dense network, and write it to `file`."""
    start = time.monotonic()
    torch.manual_seed(0)
    network = network_of(settings, Path(settings.checkpoint) if settings.checkpoint else None)
    optimizer = sgd(network, settings.dense_lr, 5e-4)
    train(network, optimizer, settings, settings.dense_epochs, (0, 0))
    found = top1(network, settings)
    with atomic_path(file) as temporary:
        torch.save({name: value.cpu() for name, value in network.state_dict().items()}, temporary)
    return {"top1": found, "seconds": time.monotonic() - start}


def prune(job: Job, settings: Settings, dense: Path) -> dict[str, Any]:
    """Carry out one run; return its accuracy, what every tensor keeps, and its time."""
    source = source_of(settings)
    network, case = network_of(settings, dense), CASES[job.case]
    start = time.monotonic()
    torch.manual_seed(job.seed)
    optimizer = sgd(network, settings.lr, 1e-4)
    steps = settings.epochs * source.train_steps(settings.batch_size)
    schedule = case.schedule(job.sparsity, steps)
    method = method_of(case.method).for_training(steps)
    pruner = gpmt.Pruner(network, optimizer, schedule=schedule, method=method, seed=job.seed, **case.options)
    if schedule.last == 0:  # pruned by now
        gpmt.recalibrate(network, [images for images, _ in source.plain_batches(256, images=RECALIBRATION)])
    pruned = top1(network, settings)
    loss = train(network, optimizer, settings, settings.epochs, (job.seed, 1))
    pruner.finish()
    pruner.close()
    found = top1(network, settings)
    masks = pruner.masks
    if masks is None or not math.isfinite(loss):
        raise RuntimeError(f"the network is dense, or its last loss, {loss}, is not a number")
    seconds = time.monotonic() - start
    result = gpmt.verify(
        network, masks=masks, sparsity=job.sparsity, min_kept=case.options.get("min_kept", 0)
    )
    wrong = [check.message for check in result.checks if not check.ok and check.name != "dead"]
    if wrong:
        raise RuntimeError("; ".join(wrong))
    return {
        "top1": found,
        "pruned": pruned,
        "loss": loss,
        "seconds": seconds,
        "step_ms": 1e3 * seconds / steps,
        "dead": sum(not masks.kept(name) for name in masks),
        "kept": {name: masks.kept(name) for name in masks},
    }
