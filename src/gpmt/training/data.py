"""Small image data sets, decoded once into memory and augmented as whole batches."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]  # images float32 [b, channels, height, width], labels int64 [b]


class Source(Protocol):
    """What training asks of a data set; in memory here, and a loader over files where memory is too small."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""

    @property
    def train_size(self) -> int:
        """Number of training images."""

    @property
    def test_size(self) -> int:
        """Number of test images."""

    def train_batches(self, batch_size: int, *, seed: tuple[int, ...]) -> Iterator[Batch]:
        """Yield one epoch in an order, and with an augmentation, that depend on `seed` alone."""

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield every test image once, over all processes, in a fixed order."""


@dataclass(frozen=True)
class Images:
    """One split of a data set: pixels uint8 [n, height, width, channels] and labels int64 [n]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class InMemory:
    """A `Source` that holds all pixels as bytes, on the device that trains.

    Pixels are scaled to [0, 1], then normalised with `mean` and `std` per channel. For training each
    image is padded by reflection with `crop_padding` pixels, cropped back at random, and, when `flip` is
    true, mirrored with probability one half. With several processes each takes its part of every batch;
    the images and their augmentation are the same however many there are.
    """

    train: Images
    test: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: bool = False
    rank: int = 0
    processes: int = 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        height, width, channels = self.train.pixels.shape[1:]
        return channels, height, width

    @property
    def train_size(self) -> int:
        """Number of training images."""
        return len(self.train)

    @property
    def test_size(self) -> int:
        """Number of test images."""
        return len(self.test)

    def placed(self, device: torch.device, *, rank: int, processes: int) -> "InMemory":
        """Return the same data on `device`, for process `rank` of `processes`."""
        train, test = (Images(s.pixels.to(device), s.labels.to(device)) for s in (self.train, self.test))
        return replace(self, train=train, test=test, rank=rank, processes=processes)

    def train_batches(self, batch_size: int, *, seed: tuple[int, ...]) -> Iterator[Batch]:
        """Yield this process's part of each batch of `batch_size` images (the last one may be smaller).

        A last batch too small to give every process two images is left out: batch normalisation, and
        the processes' waiting for each other, need them.
        """
        generator = torch.Generator().manual_seed(_mix(seed))
        order = torch.randperm(len(self.train), generator=generator)
        shifts = torch.randint(2 * self.crop_padding + 1, (2, len(order)), generator=generator)
        mirrored = torch.rand(len(order), generator=generator) < (0.5 if self.flip else 0.0)
        device = self.train.labels.device
        order, shifts, mirrored = (t.to(device) for t in (order, shifts, mirrored))
        for start in range(0, len(order), batch_size):
            share = min(batch_size, len(order) - start) // self.processes
            if share < 2:
                return
            part = slice(start + self.rank * share, start + (self.rank + 1) * share)
            pixels = self._cropped(order[part], shifts[:, part], mirrored[part])
            yield self._normalised(pixels), self.train.labels[order[part]]

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield every image of the test split once, this process's share of it, without augmentation."""
        for start in range(self.rank * batch_size, len(self.test), self.processes * batch_size):
            part = slice(start, start + batch_size)
            yield self._normalised(self.test.pixels[part]), self.test.labels[part]

    def _cropped(self, index: Tensor, shifts: Tensor, mirrored: Tensor) -> Tensor:
        """Gather images `index`, each cropped and mirrored by reading its rows and columns elsewhere."""
        if self.crop_padding == 0 and not self.flip:
            return self.train.pixels[index]
        height, width = self.train.pixels.shape[1:3]
        rows = _reflect(
            torch.arange(height, device=index.device) + shifts[0, :, None] - self.crop_padding, height
        )
        cols = _reflect(
            torch.arange(width, device=index.device) + shifts[1, :, None] - self.crop_padding, width
        )
        cols = torch.where(mirrored[:, None], cols.flip(1), cols)
        return self.train.pixels[index[:, None, None], rows[:, :, None], cols[:, None, :]]

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Turn bytes [b, h, w, c] into floats [b, c, h, w], laid out channels last."""
        mean = torch.tensor(self.mean, device=pixels.device)
        std = torch.tensor(self.std, device=pixels.device)
        return (pixels * (1 / (255 * std)) - mean / std).permute(0, 3, 1, 2)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Fold positions just outside [0, size) back in, without repeating the border pixel."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _mix(seed: tuple[int, ...]) -> int:
    """Turn several small numbers into one well-mixed 64-bit seed."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
