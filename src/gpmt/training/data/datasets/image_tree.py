"""Images in a folder for each class, as torchvision's ImageFolder reads them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gpmt.errors import DataError
from gpmt.training.data.transforms import decode_image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
EVALUATION = ("val", "validation", "test")
"""Names of the split to evaluate on; the first of them that exists is used."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files under `root` and their labels int64 [n].

    `names` are paths relative to `root` in one array of bytes: a million Python strings would take ten times the
    memory, and again in each worker, since reference counts copy the pages of a forked process.
    """

    root: Path
    names: np.ndarray[tuple[int], np.dtype[np.bytes_]]
    labels: Tensor

    def path(self, index: int) -> Path:
        """Return the path of image `index`."""
        return self.root / os.fsdecode(self.names[index])

    def read(self, index: int) -> Image.Image:
        """Return image `index` in RGB."""
        path = self.path(index)
        return decode_image(path, str(path))

    def subset(self, index: Tensor) -> Self:
        """Return the images at `index` [m]."""
        return replace(self, names=self.names[index.numpy()], labels=self.labels[index])


def image_tree(root: Path) -> tuple[ImageFiles, tuple[str, ...]]:
    """Find <class>/**/<image> under `root`; classes are numbered in the order of their names."""
    classes = _folders(root)
    names, labels = [], []
    for label, name in enumerate(classes):
        for parent, _, files in sorted(os.walk(root / name, followlinks=True)):
            within = Path(parent).relative_to(root)
            found = [file for file in sorted(files) if Path(file).suffix.lower() in SUFFIXES]
            names += [os.fsencode(within / file) for file in found]
            labels += [label] * len(found)
    if not names:
        raise DataError(f"{root} does not hold images; it must hold {root.name}/<class>/*.jpg")
    return ImageFiles(root, np.array(names), torch.tensor(labels, device="cpu")), classes


def tree_pair(root: Path, *, train: str, test: str) -> tuple[ImageFiles, ImageFiles, tuple[str, ...]]:
    """Return both splits of a data set, which must have the same classes."""
    train_files, classes = image_tree(root / train)
    test_files, test_classes = image_tree(root / test)
    _check_classes(root, {train: classes, test: test_classes})
    return train_files, test_files, classes


def _check_classes(root: Path, classes: Mapping[str, tuple[str, ...]]) -> None:
    """Raise DataError unless both splits have the same classes."""
    train, test = classes
    if odd := sorted({*classes[train]} ^ {*classes[test]}):
        raise DataError(
            f"{root} has class {odd[0]} in only one of {train} and {test}; both need the same folders"
        )


def tree_splits(
    root: Path, *, name: str, expected: str, training: bool
) -> tuple[ImageFiles | None, ImageFiles, tuple[str, ...]]:
    """Return train and test files of a tree; the former are None where the tree has no training split.

    The test split is the first of `EVALUATION`; a `root` that holds class folders itself is one. Without `training`,
    of the training split only the folders of its classes are looked at.
    """
    folders = _folders(root)
    test = next((split for split in EVALUATION if split in folders), None)
    if "train" in folders and test:
        if not training:
            _check_classes(root, {"train": _folders(root / "train"), test: _folders(root / test)})
            return (None, *image_tree(root / test))
        return tree_pair(root, train="train", test=test)
    if "train" in folders or not folders:
        raise DataError(f"{root} does not hold {name} as gpmt reads it; it must hold {expected}")
    return (None, *image_tree(root / test if test else root))


def _folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."))
