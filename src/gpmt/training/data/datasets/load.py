"""Loading a data set by name, with the options of a recipe's data."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self, TypeVar

from torch import Tensor

from gpmt.errors import DataError
from gpmt.suggestions import did_you_mean
from gpmt.training.data.datasets.data_root import Track, check_root
from gpmt.training.data.datasets.registry import DATASETS, TEXT_OPTIONS, InMemoryDataset
from gpmt.training.data.file_source import FileSource
from gpmt.training.data.sampling import balanced_subset
from gpmt.training.data.source import Source
from gpmt.training.data.text_transform import load_text_transform
from gpmt.training.data.transforms import IMAGENET_MEAN, IMAGENET_STD, ImageTransform, SampleTransform


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
    training: bool = True,
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
        max_length: tokens to which texts are truncated or padded; the default is 128, or what the tokenizer
            takes if that is less.
        tokenizer: folder of a tokenizer; with it, `hf` is read as texts.
        training: whether the training split is wanted; without it, images and texts in files are not even listed.
        track: is told of every image or signal that is read into memory.

    Raises DataError when files are missing (it says which, and where) or wrong, and for an option that the data
    set does not use.
    """
    if name not in DATASETS:
        raise DataError(f"data.name is {name}, which is not known; {did_you_mean(name, DATASETS)}")
    dataset = DATASETS[name]
    as_text = name == "hf" and tokenizer is not None
    _refuse_unused(
        name,
        TEXT_OPTIONS if as_text else dataset.options,
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
    if isinstance(dataset, InMemoryDataset):
        source = dataset.read(name, root, track)
        return replace(
            source,
            train=_limited(source.train, "train", train_limit),
            test=_limited(source.test, "test", test_limit),
            mean=_per_channel("mean", mean, source.mean, name),
            std=_per_channel("std", std, source.std, name),
            crop_padding=crop_padding,
            flip=flip,
        )
    transform: SampleTransform
    if as_text and tokenizer is not None:
        transform = load_text_transform(tokenizer, max_length)
    else:
        size = 224 if size is None else size
        transform = ImageTransform(
            size=size,
            resize=round(size / 0.875) if resize is None else resize,
            interpolation=interpolation,
            mean=_per_channel("mean", mean, IMAGENET_MEAN, name),
            std=_per_channel("std", std, IMAGENET_STD, name),
        )
    root = check_root(root, name, dataset.expected)
    train, test, classes = dataset.read(root, name, dataset.expected, as_text, training)
    if train is None and train_limit is not None:
        raise DataError(f"data.train_limit is {train_limit}, but {root} has no train split; leave it out")
    return FileSource(
        None if train is None else _limited(train, "train", train_limit),
        _limited(test, "test", test_limit),
        classes,
        transform,
        workers,
    )


class _Limitable(Protocol):
    @property
    def labels(self) -> Tensor: ...

    def subset(self, index: Tensor) -> Self: ...


_Split = TypeVar("_Split", bound=_Limitable)


def _limited(split: _Split, name: str, limit: int | None) -> _Split:
    if limit is None:
        return split
    size = len(split.labels)
    if not 1 <= limit <= size:
        raise DataError(
            f"data.{name}_limit is {limit}, but the {name} split has {size:,} samples; give 1 to {size}"
        )
    return split.subset(balanced_subset(split.labels, limit))


def _per_channel(
    key: str, values: tuple[float, ...] | None, default: tuple[float, ...], name: str
) -> tuple[float, ...]:
    if values is None:
        return default
    if len(values) != len(default):
        raise DataError(
            f"data.{key} has {len(values)} values, but {name} has {len(default)} channels; "
            "give one value per channel"
        )
    return tuple(values)


def _refuse_unused(name: str, used: tuple[str, ...], options: dict[str, object]) -> None:
    for key, value in options.items():
        if value is not None and key not in used:
            raise DataError(
                f"data.{key} is {value}, but {name} does not use it, only {', '.join(used)}; leave it out"
            )
