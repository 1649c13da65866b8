"""The protocol that training reads data through: batches on the device, for one of several processes."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

Inputs = Tensor | dict[str, Tensor]
"""Images float32 [b, channels, height, width], series float32 [b, steps, channels], or tokens by keyword, int64."""

Batch = tuple[Inputs, Tensor]
"""What a network takes, and its labels, int64 [b]."""


class Source(Protocol):
    """A data set as training sees it: batches on the device, this process's part of them."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch: (channels, height, width), (steps, channels) or (tokens,)."""

    @property
    def train_size(self) -> int:
        """Number of training samples."""

    @property
    def test_size(self) -> int:
        """Number of test samples."""

    def placed(self, device: torch.device, *, rank: int, processes: int) -> "Source":
        """Return the same data with batches on `device`, for process `rank` of `processes`."""

    def train_steps(self, batch_size: int) -> int:
        """Return how many batches `train_batches` yields in an epoch."""

    def train_batches(self, batch_size: int, *, seed: tuple[int, ...]) -> Iterator[Batch]:
        """Yield one epoch in an order, and with an augmentation, that depend on `seed` alone.

        `batch_size` counts the samples of all processes together; each takes an equal part of every batch.
        """

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield every test sample once, over all processes, in a fixed order."""

    def plain_batches(self, batch_size: int, *, images: int) -> Iterator[Batch]:
        """Yield that many training samples (or all, where there are fewer) without augmentation.

        They are the same in every process and at every call, in an order that mixes the classes; batch
        normalisation is recalibrated on them.
        """

    def example(self) -> Inputs:
        """Return one input of zeros with a batch dimension of 1, to trace a network or count its MACs."""
