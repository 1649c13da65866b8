"""A data set that is read sample by sample while training goes on, because it is too large for memory."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from gpmt.errors import DataError
from gpmt.system import core_count
from gpmt.training.data.source import Batch, Inputs, fixed_order, mix, shares

MAX_WORKERS = 8
"""More do not help: the disk, or the network's own speed, is the limit by then."""


class Samples(Protocol):
    """One split of a data set in files: labels at hand, the rest read when asked for."""

    @property
    def labels(self) -> Tensor:
        """Labels int64 [n]."""

    def read(self, index: int) -> Any:
        """Return sample `index` as an image or a text, or raise DataError that names it."""

    def subset(self, index: Tensor) -> Self:
        """Return the samples at `index` [m]."""


class Form(Protocol):
    """How a sample becomes an input of the network."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""

    def plain(self, sample: Any) -> Inputs:
        """Return the input, not yet on the device and without a batch dimension."""

    def augmented(self, sample: Any) -> Inputs:
        """Return the same for training; what is random is drawn from PyTorch's global generator."""

    def finished(self, batch: Any) -> Inputs:
        """Turn a batch of inputs, by now on the device, into what the network takes."""

    def example(self) -> Inputs:
        """Return one input of zeros with a batch dimension of 1."""


@dataclass(frozen=True)
class FromFiles:
    """A `Source` that reads, decodes and augments in worker processes, ahead of the training.

    The augmentation of a sample depends on the seed and on its position in the epoch alone, so that it is the
    same with any number of workers and of processes. `workers` counts the workers of each training process; 0
    reads in the process itself, None takes the cores left over, at most `MAX_WORKERS`. Without a training split
    the data are good for evaluation only. Iterating raises DataError, which names the sample, where one is damaged.
    """

    train: Samples | None
    test: Samples
    classes: tuple[str, ...]
    form: Form
    workers: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    processes: int = 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""
        return self.form.input_shape

    @property
    def train_size(self) -> int:
        """Number of training samples, 0 where there is no training split."""
        return 0 if self.train is None else len(self.train.labels)

    @property
    def test_size(self) -> int:
        """Number of test samples."""
        return len(self.test.labels)

    def placed(self, device: torch.device, *, rank: int, processes: int) -> Self:
        """Return the same data with batches on `device`, for process `rank` of `processes`."""
        return replace(self, device=device, rank=rank, processes=processes)

    def train_steps(self, batch_size: int) -> int:
        """Return how many batches `train_batches` yields in an epoch."""
        return len(shares(self.train_size, batch_size, rank=0, processes=self.processes))

    def train_batches(self, batch_size: int, *, seed: tuple[int, ...]) -> Iterator[Batch]:
        """Yield this process's part of each batch of `batch_size` samples, as `shares` cuts the epoch."""
        train = self._training()
        generator = torch.Generator().manual_seed(mix(seed))
        order = torch.randperm(self.train_size, generator=generator)
        parts = shares(self.train_size, batch_size, rank=self.rank, processes=self.processes)
        keys = (list(zip(order[part].tolist(), range(part.start, part.stop), strict=True)) for part in parts)
        return self._batches(_Reader(train, self.form, seed), keys)

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield every sample of the test split once, this process's share of it, without augmentation."""
        order = torch.arange(self.test_size)
        parts = torch.split(order, batch_size)[self.rank :: self.processes]
        return self._batches(_Reader(self.test, self.form), _plain_keys(parts))

    def plain_batches(self, batch_size: int, *, images: int) -> Iterator[Batch]:
        """Yield `images` training samples without augmentation, the same in every process."""
        train = self._training()
        parts = torch.split(fixed_order(self.train_size)[:images], batch_size)
        return self._batches(_Reader(train, self.form), _plain_keys(parts))

    def example(self) -> Inputs:
        """Return one input of zeros with a batch dimension of 1."""
        inputs: Inputs = _moved(self.form.example(), self.device)
        return inputs

    def _training(self) -> Samples:
        if self.train is None:
            raise DataError(
                "the data have a test split only, which is enough to evaluate; to train, give data.root=FOLDER "
                "with a train split as well"
            )
        return self.train

    def _batches(self, reader: "_Reader", keys: Iterable[list[Any]]) -> Iterator[Batch]:
        loader = DataLoader(
            reader,
            batch_sampler=keys,
            num_workers=default_workers() if self.workers is None else self.workers,
            collate_fn=_collated,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # or the loader would draw from the one that dropout draws from
        )
        try:
            for batch in loader:
                if isinstance(batch, DataError):
                    raise batch
                inputs, labels = _moved(batch, self.device)
                yield self.form.finished(inputs), labels
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a worker that reads the data died ({str(error).strip(' .')}), mostly for want of memory; "
                "lower data.workers"
            ) from error


def default_workers() -> int:
    """Return the cores left for each training process of this machine beside its own, at most `MAX_WORKERS`."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as accelerate launch and torchrun set it
    return max(0, min(MAX_WORKERS, core_count() // here - 1))


_Key = tuple[int, int | None]
"""Index of a sample, and its position in the epoch where it is to be augmented."""


def _plain_keys(parts: Iterable[Tensor]) -> Iterator[list[Any]]:
    return ([(index, None) for index in part.tolist()] for part in parts)


@dataclass(frozen=True)
class _Reader(Dataset[Any]):
    """What the workers do: read a sample and give it its form."""

    samples: Samples
    form: Form
    seed: tuple[int, ...] = ()

    def __getitem__(self, key: _Key) -> Any:
        index, position = key
        try:
            sample = self.samples.read(index)
        except DataError as error:
            return error  # raised in a worker, it would come out with a traceback as its text
        label = self.samples.labels[index]
        if position is None:
            return self.form.plain(sample), label
        with torch.random.fork_rng(devices=[]):
            # One more than the position: a trailing zero would give the seed of the order itself.
            torch.default_generator.manual_seed(mix((*self.seed, position + 1)))
            return self.form.augmented(sample), label


def _collated(samples: list[Any]) -> Any:
    damaged = next((sample for sample in samples if isinstance(sample, DataError)), None)
    return damaged or default_collate(samples)


def _moved(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    if isinstance(inputs, dict):
        return {key: _moved(value, device) for key, value in inputs.items()}
    return [_moved(value, device) for value in inputs]
