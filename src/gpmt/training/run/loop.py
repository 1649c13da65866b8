"""One epoch of training, and one evaluation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from gpmt.arithmetic import ceil_div
from gpmt.training.data.source import Batch, Inputs, Source
from gpmt.training.models import logits
from gpmt.training.run.objective import Objective
from gpmt.training.run.progress import Advance
from gpmt.training.run.score import Meter, Score
from gpmt.training.run.states import is_sharded

if TYPE_CHECKING:  # the loop does not need what checks recipes
    from gpmt.pruner.cram import CrAM
    from gpmt.training.recipes.schema import Training

EVALUATION_BATCH = 256


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    source: Source,
    accelerator: Accelerator,
    *,
    settings: Training,
    epoch: int,
    objective: Objective,
    cram: CrAM | None = None,
    seed: tuple[int, ...],
    advance: Advance,
    rates: Callable[[int, int, int], float] | None = None,
    after_step: Callable[[], None] = lambda: None,
    memory_format: torch.memory_format = torch.channels_last,
) -> Score:
    """Train on every image once and return the mean loss and accuracy over the epoch.

    The learning rate of a step is what `rates` returns for `epoch`, from 0, the step, and the steps there are: by
    default that of `settings`. Everything random is drawn from `seed`, so that an epoch started anew after an
    interruption repeats itself exactly. With `cram` each step takes its gradients from there. `after_step` is called
    after every step of the optimiser.
    """
    seed_everything((*seed, accelerator.process_index))
    meter = Meter(accelerator.device, num_classes=len(source.classes))
    steps = source.train_steps(settings.batch_size)
    rates = rates or settings.learning_rate
    model.train()
    for step, (inputs, labels) in enumerate(source.train_batches(settings.batch_size, seed=seed)):
        for group in optimizer.param_groups:
            group["lr"] = rates(epoch, step, steps)
        parts = list(_split((_in_memory_format(inputs, memory_format), labels), settings.accumulate))
        if cram is None:
            optimizer.zero_grad()
            loss = _backward(model, parts, accelerator, objective, meter)
        else:
            loss = _backward_twice(cram, model, parts, accelerator, objective, meter)
        if settings.clip_norm is not None:
            accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        after_step()
        advance(len(labels) * accelerator.num_processes, loss.detach())
    return meter.score(accelerator)


def _backward(
    model: nn.Module,
    parts: Sequence[Batch],
    accelerator: Accelerator,
    objective: Objective,
    meter: Meter | None,
) -> Tensor:
    """Add the gradients of the mean loss over all parts of a batch; return the loss of the last part."""
    images = sum(len(labels) for _, labels in parts)
    for index, (inputs, labels) in enumerate(parts):
        last = index == len(parts) - 1
        with nullcontext() if last else accelerator.no_sync(model), accelerator.autocast():
            outputs = logits(model, inputs)
            loss = objective(outputs, inputs, labels)
            accelerator.backward(loss * (len(labels) / images))
        if meter is not None:
            meter.add(outputs, labels, loss)
    return loss


def _backward_twice(
    cram: CrAM,
    model: nn.Module,
    parts: Sequence[Batch],
    accelerator: Accelerator,
    objective: Objective,
    meter: Meter,
) -> Tensor:
    """Leave the gradients of a step of CrAM; what is measured is the dense network, which is evaluated first."""
    meters = iter([meter])

    def closure() -> Tensor:
        return _backward(model, parts, accelerator, objective, next(meters, None))

    loss: Tensor = cram.gradients(closure)
    return loss


@torch.no_grad()
def evaluate(
    model: nn.Module,
    source: Source,
    accelerator: Accelerator,
    *,
    advance: Callable[[int], None],
    batch_size: int = EVALUATION_BATCH,
    memory_format: torch.memory_format = torch.channels_last,
) -> Score:
    """Return loss (without label smoothing) and accuracy over the test split."""
    meter = Meter(accelerator.device, num_classes=len(source.classes))
    model.eval()
    batches = 0
    for inputs, labels in source.test_batches(batch_size):
        with accelerator.autocast():
            meter.add(logits(model, _in_memory_format(inputs, memory_format)), labels)
        batches += 1
        advance(len(labels) * accelerator.num_processes)
    if is_sharded(model):
        # Every process takes part in gathering the weights, also one that has fewer batches than another.
        max_batches = ceil_div(source.test_size, batch_size * accelerator.num_processes)
        for _ in range(max_batches - batches):
            with accelerator.autocast():
                logits(model, source.example())
    return meter.score(accelerator)


def seed_everything(seed: tuple[int, ...]) -> None:
    """Seed the global generators of Python, NumPy and PyTorch (all devices)."""
    words = np.random.SeedSequence(seed).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))  # noqa: NPY002  # networks of other libraries may draw from it
    torch.manual_seed(int(words[1]))


def _split(batch: Batch, count: int) -> Iterator[Batch]:
    """Split a batch into `count` parts of nearly equal size."""
    inputs, labels = batch
    if count == 1:
        yield batch
        return
    for index in torch.arange(len(labels), device=labels.device).tensor_split(count):
        if len(index):
            taken = (
                {key: value[index] for key, value in inputs.items()}
                if isinstance(inputs, dict)
                else inputs[index]
            )
            yield taken, labels[index]


def _in_memory_format(inputs: Inputs, memory_format: torch.memory_format) -> Inputs:
    """Return images in the memory format of the network's weights."""
    if isinstance(inputs, Tensor) and inputs.ndim == 4:
        return inputs.contiguous(memory_format=memory_format)
    return inputs
