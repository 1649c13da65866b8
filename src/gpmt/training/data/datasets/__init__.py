"""Data sets by name, read from files the user has; nothing is downloaded.

``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, ``cifar100``, ``har2`` and ``har6`` are held in memory;
``imagenet``, ``imagefolder`` (any images in a folder for each class) and ``hf`` (a Hugging Face dataset of images or
texts) are read while training goes on.
"""

from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self, TypeVar

from torch import Tensor

from gpmt.errors import DataError
from gpmt.suggestions import did_you_mean
from gpmt.training.data.datasets import cifar, digits, har, hub, mnist
from gpmt.training.data.datasets.image_tree import tree_splits
from gpmt.training.data.datasets.root import Track, folder
from gpmt.training.data.from_files import Form, FromFiles, Samples
from gpmt.training.data.source import InMemory, Source, balanced
from gpmt.training.data.transforms import IMAGENET_MEAN, IMAGENET_STD, ImageForm

_IN_MEMORY = ("mean", "std", "crop_padding", "flip")
_SERIES = ("mean", "std")
_IMAGES = ("mean", "std", "size", "resize", "interpolation", "workers")
_TEXTS = ("tokenizer", "max_length", "workers")
_OPTIONS = {
    "digits": _IN_MEMORY,
    "mnist": _IN_MEMORY,
    "fashion-mnist": _IN_MEMORY,
    "cifar10": _IN_MEMORY,
    "cifar100": _IN_MEMORY,
    "imagenet": _IMAGES,
    "har2": _SERIES,
    "har6": _SERIES,
    "imagefolder": _IMAGES,
    "hf": _IMAGES,
}
NAMES = tuple(_OPTIONS)

_PARQUET = "data/train-*.parquet and data/validation-*.parquet"
_EXPECTED = {
    "imagenet": f"train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or {_PARQUET}, or <wnid>/*.JPEG alone for evaluation",
    "imagefolder": "train/<class>/*.jpg and val/<class>/*.jpg (or validation or test), or <class>/*.jpg alone for "
    "evaluation",
    "hf": f"{_PARQUET} (or test-*.parquet), or what DatasetDict.save_to_disk wrote",
}


def load(
    name: str,
    *,
    root: Path | None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    crop_padding: int = 0,
    flip: bool = False,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    size: int | None = None,
    resize: int | None = None,
    interpolation: str = "bilinear",
    workers: int | None = None,
    max_length: int | None = None,
    tokenizer: Path | None = None,
    track: Track = lambda items, description, total: items,
) -> Source:
    """Return data set `name` (one of `NAMES`) from the files under `root`.

    Args:
        name: which data set.
        root: its folder; None for digits, which come with scikit-learn.
        train_limit: use that many training samples only, the same ones every time, evenly over the classes.
        test_limit: likewise for the test split.
        crop_padding: pixels by which training images in memory are padded and shifted.
        flip: whether half of the training images in memory are mirrored; those from files always are.
        mean: per channel; the default is that of the training split, and ImageNet's for images from files.
        std: likewise.
        size: side of the images from files in pixels; the default is 224.
        resize: what their shorter side is scaled to for evaluation; the default is size / 0.875, which is 256.
        interpolation: how images are scaled: bilinear, bicubic or nearest.
        workers: processes that read files, for each process that trains; the default is the cores left over, at
            most 8, and 0 reads in the process itself.
        max_length: tokens to which texts are cut or padded; the default is 128, or what the tokenizer takes if
            that is less.
        tokenizer: folder of a tokenizer; with it, `hf` is read as texts.
        track: is told of every image or signal that is read into memory.

    Raises DataError when files are missing (it says which, and where) or wrong, and for an option that the data
    set has no use for.
    """
    if name not in NAMES:
        raise DataError(f"data.name is {name}, which is not known; {did_you_mean(name, NAMES)}")
    as_text = name == "hf" and tokenizer is not None
    _refuse_unused(
        name,
        _TEXTS if as_text else _OPTIONS[name],
        {
            "crop_padding": crop_padding or None,
            "flip": flip or None,
            "mean": mean,
            "std": std,
            "size": size,
            "resize": resize,
            "interpolation": None if interpolation == "bilinear" else interpolation,
            "workers": workers,
            "max_length": max_length,
            "tokenizer": tokenizer,
        },
    )
    if name not in _EXPECTED:
        source = _in_memory(name, root, track)
        return replace(
            source,
            train=_limited(source.train, "train", train_limit),
            test=_limited(source.test, "test", test_limit),
            mean=_per_channel("mean", mean, source.mean, name),
            std=_per_channel("std", std, source.std, name),
            crop_padding=crop_padding,
            flip=flip,
        )
    form: Form
    if as_text and tokenizer is not None:
        form = hub.text_form(tokenizer, max_length)
    else:
        size = 224 if size is None else size
        form = ImageForm(
            size=size,
            resize=round(size / 0.875) if resize is None else resize,
            interpolation=interpolation,
            mean=_per_channel("mean", mean, IMAGENET_MEAN, name),
            std=_per_channel("std", std, IMAGENET_STD, name),
        )
    train, test, classes = _from_files(name, root, as_text=as_text)
    if train is None and train_limit is not None:
        raise DataError(f"data.train_limit is {train_limit}, but {root} has no train split; leave it out")
    return FromFiles(
        None if train is None else _limited(train, "train", train_limit),
        _limited(test, "test", test_limit),
        classes,
        form,
        workers,
    )


def _in_memory(name: str, root: Path | None, track: Track) -> InMemory:
    match name:
        case "digits":
            return digits.load(root)
        case "mnist" | "fashion-mnist":
            return mnist.load(name, root)
        case "cifar10" | "cifar100":
            return cifar.load(name, root, track)
    return har.load(name, root, track)


def _from_files(
    name: str, root: Path | None, *, as_text: bool
) -> tuple[Samples | None, Samples, tuple[str, ...]]:
    expected = _EXPECTED[name]
    root = folder(root, name, expected)
    if name == "hf" or (name == "imagenet" and hub.parquet_files(root)):
        return hub.load(root, as_text=as_text, expected=expected)
    return tree_splits(root, name=name, expected=expected)


class _Limitable(Protocol):
    @property
    def labels(self) -> Tensor: ...

    def subset(self, index: Tensor) -> Self: ...


_Part = TypeVar("_Part", bound=_Limitable)


def _limited(part: _Part, name: str, limit: int | None) -> _Part:
    """Return `limit` samples of a split."""
    if limit is None:
        return part
    size = len(part.labels)
    if not 1 <= limit <= size:
        raise DataError(
            f"data.{name}_limit is {limit}, but the {name} split has {size:,} samples; give 1 to {size}"
        )
    return part.subset(balanced(part.labels, limit))


def _per_channel(
    key: str, values: tuple[float, ...] | None, default: tuple[float, ...], name: str
) -> tuple[float, ...]:
    if values is None:
        return default
    if len(values) != len(default):
        raise DataError(
            f"data.{key} has {len(values)} numbers, but {name} has {len(default)} channels; "
            "give one number per channel"
        )
    return values


def _refuse_unused(name: str, used: tuple[str, ...], options: dict[str, object]) -> None:
    for key, value in options.items():
        if value is not None and key not in used:
            raise DataError(
                f"data.{key} is {value}, but {name} has no use for it, only for {', '.join(used)}; leave it out"
            )
