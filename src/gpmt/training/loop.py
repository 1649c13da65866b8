"""One epoch of training, and one evaluation."""

import random
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from gpmt.training.data import Source
from gpmt.training.metrics import Meter, Score
from gpmt.training.progress import Advance

EVALUATION_BATCH = 256


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    source: Source,
    accelerator: Accelerator,
    *,
    batch_size: int,
    label_smoothing: float,
    seed: tuple[int, ...],
    advance: Advance,
) -> Score:
    """Train on every image once and return the mean loss and accuracy seen on the way.

    `batch_size` counts the images of all processes together. Everything random is drawn from `seed`, so
    that an epoch started anew after an interruption repeats itself exactly.
    """
    seed_everything((*seed, accelerator.process_index))
    meter = Meter(accelerator.device, num_classes=len(source.classes))
    model.train()
    for images, labels in source.train_batches(batch_size, seed=seed):
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        meter.add(logits, labels, loss)
        advance(len(labels) * accelerator.num_processes, loss.detach())
    return meter.score(accelerator)


@torch.no_grad()
def evaluate(
    model: nn.Module, source: Source, accelerator: Accelerator, *, advance: Callable[[int], None]
) -> Score:
    """Return loss (without label smoothing) and accuracy over the test split."""
    meter = Meter(accelerator.device, num_classes=len(source.classes))
    model.eval()
    for images, labels in source.test_batches(EVALUATION_BATCH):
        meter.add(model(images), labels)
        advance(len(labels) * accelerator.num_processes)
    return meter.score(accelerator)


def seed_everything(seed: tuple[int, ...]) -> None:
    """Seed the global generators of Python, NumPy and PyTorch (all devices)."""
    words = np.random.SeedSequence(seed).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))  # noqa: NPY002  # networks and layers of others may draw from it
    torch.manual_seed(int(words[1]))
