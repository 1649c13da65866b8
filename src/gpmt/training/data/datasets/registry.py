"""The data sets by name: how each is read, and which options of `load` it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpmt.training.data.datasets import cifar, digits, har, hugging_face, mnist
from gpmt.training.data.datasets.data_root import Track
from gpmt.training.data.datasets.image_tree import tree_splits
from gpmt.training.data.file_source import Samples
from gpmt.training.data.in_memory_source import InMemorySource

_PIXELS = ("mean", "std", "crop_padding", "flip")
_SERIES = ("mean", "std")
_IMAGE_FILES = ("mean", "std", "size", "resize", "interpolation", "workers")
TEXT_OPTIONS = ("tokenizer", "max_length", "workers")
"""Options of a data set that is read as texts, in place of those for images."""

FileSplits = tuple[Samples | None, Samples, tuple[str, ...]]
"""Training split, where there is one, test split, and names of the classes."""


@dataclass(frozen=True)
class InMemoryDataset:
    """A data set that is read into memory: `read` takes its name, its folder and a progress bar."""

    read: Callable[[str, Path | None, Track], InMemorySource]
    options: tuple[str, ...] = _PIXELS


@dataclass(frozen=True)
class FileDataset:
    """A data set whose samples are read while training goes on.

    `read` takes its folder, its name, what the folder must hold, which is `expected`, and whether the samples
    are texts, and whether the training split is wanted.
    """

    read: Callable[[Path, str, str, bool, bool], FileSplits]
    expected: str
    options: tuple[str, ...] = _IMAGE_FILES


def _read_tree(root: Path, name: str, expected: str, as_text: bool, training: bool) -> FileSplits:
    return tree_splits(root, name=name, expected=expected, training=training)


def _read_hugging_face(root: Path, name: str, expected: str, as_text: bool, training: bool) -> FileSplits:
    return hugging_face.load(root, as_text=as_text, expected=expected, training=training)


def _read_imagenet(root: Path, name: str, expected: str, as_text: bool, training: bool) -> FileSplits:
    read = _read_hugging_face if hugging_face.parquet_files(root) else _read_tree
    return read(root, name, expected, as_text, training)


_PARQUET = "data/train-*.parquet and data/validation-*.parquet"
DATASETS: dict[str, InMemoryDataset | FileDataset] = {
    "digits": InMemoryDataset(digits.load),
    "mnist": InMemoryDataset(mnist.load),
    "fashion-mnist": InMemoryDataset(mnist.load),
    "cifar10": InMemoryDataset(cifar.load),
    "cifar100": InMemoryDataset(cifar.load),
    "imagenet": FileDataset(
        _read_imagenet,
        f"train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or {_PARQUET}, or <wnid>/*.JPEG alone for evaluation",
    ),
    "har2": InMemoryDataset(har.load, _SERIES),
    "har6": InMemoryDataset(har.load, _SERIES),
    "imagefolder": FileDataset(
        _read_tree,
        "train/<class>/*.jpg and val/<class>/*.jpg (or validation or test), or <class>/*.jpg alone for evaluation",
    ),
    "hf": FileDataset(
        _read_hugging_face, f"{_PARQUET} (or test-*.parquet), or what DatasetDict.save_to_disk wrote"
    ),
}
"""``imagefolder`` is any images in a folder for each class, ``hf`` a Hugging Face dataset of images or texts."""

NAMES = tuple(DATASETS)
