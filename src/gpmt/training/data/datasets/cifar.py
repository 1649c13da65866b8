"""CIFAR-10 and CIFAR-100."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpmt.errors import DataError
from gpmt.training.data.datasets.data_root import Track, check_root
from gpmt.training.data.datasets.image_tree import ImageFiles, tree_pair
from gpmt.training.data.in_memory_source import InMemorySource, Split

# CIFAR-10's are those of the authors' scripts, CIFAR-100's those of its training split.
NORMALISATION = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
BATCHES = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def load(name: str, root: Path | None, track: Track) -> InMemorySource:
    """Return ``cifar10`` or ``cifar100`` from the published python files or from a tree of images."""
    expected = f"either {BATCHES[name]} (the python version) or train/<class>/*.jpg and test/<class>/*.jpg"
    root = check_root(root, name, expected)
    mean, std = NORMALISATION[name]
    if (root / "train").is_dir() and (root / "test").is_dir():
        train, test, classes = tree_pair(root, train="train", test="test")
        return InMemorySource(_decode_all(train, track), _decode_all(test, track), classes, mean, std)
    if (root / BATCHES[name]).is_dir():
        train_split, test_split, classes = _read_published(name, root)
        return InMemorySource(train_split, test_split, classes, mean, std)
    raise DataError(f"{root} does not hold {name} as gpmt reads it; it must hold {expected}")


def _read_published(name: str, root: Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Read the pickled batches; torchvision unpickles them only if their MD5 sums are the published ones."""
    from torchvision.datasets import CIFAR10, CIFAR100

    published, archive = {
        "cifar10": (CIFAR10, "cifar-10-python.tar.gz"),
        "cifar100": (CIFAR100, "cifar-100-python.tar.gz"),
    }[name]
    try:
        splits = [published(str(root), train=train, download=False) for train in (True, False)]
    except RuntimeError as error:
        raise DataError(
            f"{root / BATCHES[name]} is incomplete or not the published files; unpack {archive} there anew"
        ) from error
    train, test = (Split(torch.from_numpy(s.data), torch.tensor(s.targets, device="cpu")) for s in splits)
    return train, test, tuple(splits[0].classes)


def _decode_all(files: ImageFiles, track: Track) -> Split:
    """Decode images of one size."""

    def pixels(index: int) -> Tensor:
        return torch.from_numpy(np.array(files.read(index)))

    with ThreadPoolExecutor(max_workers=2) as pool:
        images: Iterator[Tensor] = pool.map(pixels, range(len(files.labels)))
        samples = list(track(images, f"reading {files.root.name} images", len(files.labels)))
    for index, image in enumerate(samples):
        if image.shape != samples[0].shape:
            sizes = ["×".join(str(n) for n in shape[1::-1]) for shape in (image.shape, samples[0].shape)]
            raise DataError(
                f"{files.path(index)} is {sizes[0]}, but {files.path(0)} is {sizes[1]}; all must have one size"
            )
    return Split(torch.stack(samples), files.labels)
