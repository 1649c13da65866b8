"""Small data sets that are held in memory, on the device that trains."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from gpmt.training.data.sampling import fixed_order, mix_seed, shares
from gpmt.training.data.source import Batch
from gpmt.training.data.transforms import constants, normalised


@dataclass(frozen=True)
class Split:
    """One split of a data set in memory.

    `samples` are pixels uint8 [n, height, width, channels] or series float32 [n, steps, channels]; `labels`
    are int64 [n].
    """

    samples: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> "Split":
        """Return the samples at `index` [m]."""
        return Split(self.samples[index], self.labels[index])


@dataclass(frozen=True)
class InMemorySource:
    """A `Source` that holds all pixels as bytes, on the device that trains.

    Pixels are scaled to [0, 1], then normalised with `mean` and `std` per channel. For training each
    image is padded by reflection with `crop_padding` pixels, cropped back at random, and, when `flip` is
    true, mirrored with probability one half. With several processes each takes its part of every batch;
    the images and their augmentation are the same with any number of processes.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: bool = False
    rank: int = 0
    processes: int = 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        height, width, channels = self.train.samples.shape[1:]
        return channels, height, width

    @property
    def train_size(self) -> int:
        """Number of training samples."""
        return len(self.train)

    @property
    def test_size(self) -> int:
        """Number of test samples."""
        return len(self.test)

    def placed(self, device: torch.device, *, rank: int, processes: int) -> Self:
        """Return the same data on `device`, for process `rank` of `processes`."""
        train, test = (Split(s.samples.to(device), s.labels.to(device)) for s in (self.train, self.test))
        return replace(self, train=train, test=test, rank=rank, processes=processes)

    def train_steps(self, batch_size: int) -> int:
        """Return how many batches `train_batches` yields in an epoch."""
        return len(shares(len(self.train), batch_size, rank=0, processes=self.processes))

    def train_batches(self, batch_size: int, *, seed: tuple[int, ...]) -> Iterator[Batch]:
        """Yield this process's part of each batch of `batch_size` samples, as `shares` divides the epoch."""
        generator = torch.Generator().manual_seed(mix_seed(seed))
        order = torch.randperm(len(self.train), generator=generator, device="cpu")
        shifts = torch.randint(2 * self.crop_padding + 1, (2, len(order)), generator=generator, device="cpu")
        mirrored = torch.rand(len(order), generator=generator, device="cpu") < (0.5 if self.flip else 0.0)
        device = self.train.labels.device
        order, shifts, mirrored = (t.to(device) for t in (order, shifts, mirrored))
        for part in shares(len(order), batch_size, rank=self.rank, processes=self.processes):
            pixels = self._cropped(order[part], shifts[:, part], mirrored[part])
            yield self._normalised(pixels), self.train.labels[order[part]]

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield every sample of the test split once, this process's share of it, without augmentation."""
        for start in range(self.rank * batch_size, len(self.test), self.processes * batch_size):
            part = slice(start, start + batch_size)
            yield self._normalised(self.test.samples[part]), self.test.labels[part]

    def plain_batches(self, batch_size: int, *, images: int) -> Iterator[Batch]:
        """Yield `images` training samples without augmentation, the same in every process."""
        order = fixed_order(len(self.train))[:images].to(self.train.labels.device)
        for index in torch.split(order, batch_size):
            yield self._normalised(self.train.samples[index]), self.train.labels[index]

    def example(self) -> Tensor:
        """Return one input of zeros with a batch dimension of 1."""
        return torch.zeros(1, *self.input_shape, device=self.train.labels.device)

    def _cropped(self, index: Tensor, shifts: Tensor, mirrored: Tensor) -> Tensor:
        """Gather images `index`, each cropped and mirrored by indexing its rows and columns."""
        if self.crop_padding == 0 and not self.flip:
            return self.train.samples[index]
        height, width = self.train.samples.shape[1:3]
        rows = _reflect(
            torch.arange(height, device=index.device) + shifts[0, :, None] - self.crop_padding, height
        )
        cols = _reflect(
            torch.arange(width, device=index.device) + shifts[1, :, None] - self.crop_padding, width
        )
        cols = torch.where(mirrored[:, None], cols.flip(1), cols)
        return self.train.samples[index[:, None, None], rows[:, :, None], cols[:, None, :]]

    def _normalised(self, pixels: Tensor) -> Tensor:
        return normalised(pixels, mean=self.mean, std=self.std)


@dataclass(frozen=True)
class SeriesSource(InMemorySource):
    """A `Source` of time series, normalised with `mean` and `std` per channel and not augmented."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Steps and channels."""
        return tuple(self.train.samples.shape[1:])

    def _normalised(self, series: Tensor) -> Tensor:
        return (series - constants(self.mean, series.device)) / constants(self.std, series.device)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Reflect positions outside [0, size) into it, without repeating the border pixel."""
    return (size - 1) - ((size - 1) - position.abs()).abs()
