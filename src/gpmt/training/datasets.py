"""Data sets by name, read from files the user has; nothing is downloaded."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpmt.errors import DataError
from gpmt.training.data import Images, InMemory
from gpmt.training.idx import read_idx

Track = Callable[[Iterable[Tensor], str, int], Iterable[Tensor]]  # wraps slow iteration in a progress bar


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of the training pixels, scaled to [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


# CIFAR-10's are those of the authors' scripts; the other two were computed from the training splits.
NORMALISATION = {
    "digits": Normalisation((0.3061,), (0.3763,)),
    "fashion-mnist": Normalisation((0.2860,), (0.3530,)),
    "cifar10": Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
NAMES = tuple(NORMALISATION)

FASHION_CLASSES = (
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".webp"}


def load(
    name: str,
    *,
    root: Path | None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    crop_padding: int = 0,
    flip: bool = False,
    track: Track = lambda items, description, total: items,
) -> InMemory:
    """Return data set `name` (one of `NAMES`) from the files under `root`.

    `mean` and `std` normalise the pixels and default to those of the training split. `track` is told of
    every image decoded. Raises DataError when files are missing (it says which, and where) or wrong.
    """
    train, test, classes = {"digits": _digits, "fashion-mnist": _fashion_mnist, "cifar10": _cifar10}[name](
        root, track
    )
    mean = mean or NORMALISATION[name].mean
    std = std or NORMALISATION[name].std
    channels = train.pixels.shape[3]
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise DataError(
                f"data.{key} has {len(values)} numbers, but {name} has {channels} channels; "
                "give one number per channel"
            )
    return InMemory(train, test, classes, mean, std, crop_padding=crop_padding, flip=flip)


Loaded = tuple[Images, Images, tuple[str, ...]]


def _digits(root: Path | None, track: Track) -> Loaded:
    """scikit-learn's 1,797 digits, 8×8, values 0 to 16; every class split 4:1 in a fixed shuffled order."""
    if root is not None:
        raise DataError(f"data.root is {root}, but digits come with scikit-learn; leave data.root out")
    from sklearn.datasets import load_digits

    bundle = load_digits()
    pixels = torch.from_numpy(np.rint(bundle.images * (255 / 16)).astype(np.uint8)).unsqueeze(3)
    labels = torch.from_numpy(bundle.target.astype(np.int64))
    in_test = torch.zeros(len(labels), dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for label in range(10):
        members = torch.nonzero(labels == label).flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        in_test[members[: len(members) // 5]] = True
    train, test = (Images(pixels[chosen], labels[chosen]) for chosen in (~in_test, in_test))
    return train, test, tuple(str(label) for label in range(10))


def _fashion_mnist(root: Path | None, track: Track) -> Loaded:
    expected = (
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte "
        "(plain or .gz)"
    )
    root = _folder(root, "fashion-mnist", expected)
    splits = []
    for part in ("train", "t10k"):
        arrays = []
        for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
            path = root / f"{part}-{kind}-ubyte"
            found = next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)
            if found is None:
                raise DataError(
                    f"{path} (or {path.name}.gz) is missing; fashion-mnist needs {expected} there"
                )
            arrays.append(read_idx(found, dimensions=dimensions))
        pixels, labels = arrays
        if len(pixels) != len(labels) or labels.max(initial=0) >= len(FASHION_CLASSES):
            raise DataError(
                f"{root} has {len(pixels):,} {part} images, {len(labels):,} labels and the largest label "
                f"{labels.max(initial=0)}, but there must be a label from 0 to 9 for each image"
            )
        splits.append(Images(torch.tensor(pixels).unsqueeze(3), torch.tensor(labels, dtype=torch.int64)))
    return splits[0], splits[1], FASHION_CLASSES


def _cifar10(root: Path | None, track: Track) -> Loaded:
    expected = "either cifar-10-batches-py (the python version) or train/<class>/*.jpg and test/<class>/*.jpg"
    root = _folder(root, "cifar10", expected)
    if (root / "train").is_dir() and (root / "test").is_dir():
        train, classes = _image_folder(root / "train", track)
        test, test_classes = _image_folder(root / "test", track)
        if test_classes != classes:
            odd = sorted({*test_classes} ^ {*classes})
            raise DataError(
                f"{root} has class {odd[0]} in only one of train and test; both need the same folders"
            )
        return train, test, classes
    if (root / "cifar-10-batches-py").is_dir():
        return _cifar10_batches(root)
    raise DataError(f"{root} holds no CIFAR-10 that can be read; it must hold {expected}")


def _cifar10_batches(root: Path) -> Loaded:
    from torchvision.datasets import CIFAR10

    try:
        splits = [CIFAR10(str(root), train=train, download=False) for train in (True, False)]
    except RuntimeError as error:
        raise DataError(
            f"{root / 'cifar-10-batches-py'} is incomplete or not the published files; unpack "
            "cifar-10-python.tar.gz there anew"
        ) from error
    train, test = (Images(torch.from_numpy(s.data), torch.tensor(s.targets)) for s in splits)
    return train, test, tuple(splits[0].classes)


def _image_folder(root: Path, track: Track) -> tuple[Images, tuple[str, ...]]:
    """Decode <class>/<image> files of one size; classes are numbered in the order of their names."""
    classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((root / name).iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not files:
        raise DataError(f"{root} holds no images; it must hold {root.name}/<class>/*.jpg")
    with ThreadPoolExecutor(max_workers=2) as pool:
        decoded = pool.map(_decode, (path for path, _ in files))
        images = list(track(decoded, f"reading {root.name} images", len(files)))
    for image, (path, _) in zip(images, files, strict=True):
        if image.shape != images[0].shape:
            sizes = ["×".join(str(n) for n in shape[1::-1]) for shape in (image.shape, images[0].shape)]
            raise DataError(f"{path} is {sizes[0]}, but {files[0][0]} is {sizes[1]}; all must have one size")
    return Images(torch.stack(images), torch.tensor([label for _, label in files])), classes


def _decode(path: Path) -> Tensor:
    """Return an image file as uint8 [height, width, 3]."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}); replace or remove the file") from error


def _folder(root: Path | None, name: str, expected: str) -> Path:
    if root is None:
        raise DataError(f"data.root is not given; give data.root=FOLDER, where the folder holds {expected}")
    root = root.expanduser()
    if not root.is_dir():
        raise DataError(f"data.root is {root}, which is not a folder; for {name} it must hold {expected}")
    return root
