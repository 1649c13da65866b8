"""Data sets that are too large for memory: worker processes read samples while training goes on."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from gpmt.errors import DataError
from gpmt.system import core_count
from gpmt.training.data.sampling import fixed_order, mix_seed, shares
from gpmt.training.data.source import Batch, Inputs
from gpmt.training.data.transforms import SampleTransform

MAX_WORKERS = 8
"""More do not help: the disk, or the network's own speed, is the limit by then."""


class Samples(Protocol):
    """One split of a data set in files: labels in memory, samples read on request."""

    @property
    def labels(self) -> Tensor:
        """Labels int64 [n]."""

    def read(self, index: int) -> Any:
        """Return sample `index` as an image or a text, or raise DataError that names it."""

    def subset(self, index: Tensor) -> Self:
        """Return the samples at `index` [m]."""


@dataclass(frozen=True)
class FileSource:
    """A `Source` that reads, decodes and augments in worker processes, ahead of the training.

    The augmentation of a sample depends on the seed and on its position in the epoch alone, so that it is the
    same with any number of workers and of processes. Iterating raises DataError, which names the sample, where
    one is damaged.

    Attributes:
        train: the training split; None where the data are for evaluation only.
        test: the test split.
        classes: names of the classes, in the order of their labels.
        transform: how samples become inputs.
        workers: worker processes of each training process; 0 reads in the process itself, None takes the cores
            left over, at most `MAX_WORKERS`.
        device: where batches are placed.
        rank: which of the training processes this is.
        processes: how many training processes there are.
    """

    train: Samples | None
    test: Samples
    classes: tuple[str, ...]
    transform: SampleTransform
    workers: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    processes: int = 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input without the batch."""
        return self.transform.input_shape

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
        """Yield this process's part of each batch of `batch_size` samples, as `shares` divides the epoch."""
        train = self._training_split()
        generator = torch.Generator().manual_seed(mix_seed(seed))
        order = torch.randperm(self.train_size, generator=generator, device="cpu")
        parts = shares(self.train_size, batch_size, rank=self.rank, processes=self.processes)
        keys = (list(zip(order[part].tolist(), range(part.start, part.stop), strict=True)) for part in parts)
        return self._batches(_Reader(train, self.transform, seed), keys)

    def test_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield every sample of the test split once, this process's share of it, without augmentation."""
        order = torch.arange(self.test_size, device="cpu")
        parts = torch.split(order, batch_size)[self.rank :: self.processes]
        return self._batches(_Reader(self.test, self.transform), _evaluation_keys(parts))

    def plain_batches(self, batch_size: int, *, images: int) -> Iterator[Batch]:
        """Yield `images` training samples without augmentation, the same in every process."""
        train = self._training_split()
        parts = torch.split(fixed_order(self.train_size)[:images], batch_size)
        return self._batches(_Reader(train, self.transform), _evaluation_keys(parts))

    def example(self) -> Inputs:
        """Return one input of zeros with a batch dimension of 1."""
        inputs: Inputs = _to_device(self.transform.example(), self.device)
        return inputs

    def _training_split(self) -> Samples:
        if self.train is None:
            raise DataError(
                "the data have a test split only, which is for evaluation; to train, give data.root=FOLDER "
                "with a train split as well"
            )
        return self.train

    def _batches(self, reader: "_Reader", keys: Iterable[list[Any]]) -> Iterator[Batch]:
        loader = DataLoader(
            reader,
            batch_sampler=keys,
            num_workers=default_workers() if self.workers is None else self.workers,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # or the loader would draw from the one that dropout draws from
        )
        try:
            for batch in loader:
                if isinstance(batch, DataError):
                    raise batch
                inputs, labels = _to_device(batch, self.device)
                yield self.transform.finish_batch(inputs), labels
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a worker that reads the data died ({str(error).strip(' .')}), mostly because memory ran out; "
                "lower data.workers"
            ) from error


def default_workers() -> int:
    """Return the cores of each training process of this machine minus one, at most `MAX_WORKERS`."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # as accelerate launch and torchrun set it
    return max(0, min(MAX_WORKERS, core_count() // here - 1))


_Key = tuple[int, int | None]
"""Index of a sample, and its position in the epoch where it is to be augmented."""


def _evaluation_keys(parts: Iterable[Tensor]) -> Iterator[list[_Key]]:
    return ([(index, None) for index in part.tolist()] for part in parts)


@dataclass(frozen=True)
class _Reader(Dataset[Any]):
    """What the workers do: read a sample and transform it."""

    samples: Samples
    transform: SampleTransform
    seed: tuple[int, ...] = ()

    def __getitem__(self, key: _Key) -> Any:
        index, position = key
        try:
            sample = self.samples.read(index)
        except DataError as error:
            return error  # raised in a worker, it would come out with a traceback as its text
        label = self.samples.labels[index]
        if position is None:
            return self.transform.evaluation_input(sample), label
        with torch.random.fork_rng(devices=[]):
            # One more than the position: a trailing zero would give the seed of the order itself.
            torch.default_generator.manual_seed(mix_seed((*self.seed, position + 1)))
            return self.transform.training_input(sample), label


def _collate(samples: list[Any]) -> Any:
    damaged = next((sample for sample in samples if isinstance(sample, DataError)), None)
    return damaged or default_collate(samples)


def _to_device(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.to(device, non_blocking=True)
    if isinstance(inputs, dict):
        return {key: _to_device(value, device) for key, value in inputs.items()}
    return [_to_device(value, device) for value in inputs]
