"""MNIST and Fashion-MNIST, which share the IDX format."""

from pathlib import Path

import torch

from gpmt.errors import DataError
from gpmt.training.data.datasets.data_root import Track, check_root
from gpmt.training.data.datasets.idx import read_idx
from gpmt.training.data.in_memory_source import InMemorySource, Split

EXPECTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte "
    "(plain or .gz)"
)
CLASSES = {
    "mnist": tuple(str(digit) for digit in range(10)),
    "fashion-mnist": (
        "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
}  # fmt: skip
# Mean and deviation, computed from the training splits.
NORMALISATION = {"mnist": ((0.1307,), (0.3081,)), "fashion-mnist": ((0.2860,), (0.3530,))}


def load(name: str, root: Path | None, track: Track) -> InMemorySource:
    """Return ``mnist`` or ``fashion-mnist`` from the four IDX files in `root`."""
    root = check_root(root, name, EXPECTED)
    splits = []
    for part in ("train", "t10k"):
        arrays = []
        for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
            path = root / f"{part}-{kind}-ubyte"
            found = next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)
            if found is None:
                raise DataError(f"{path} (or {path.name}.gz) is missing; {name} needs {EXPECTED} there")
            arrays.append(read_idx(found, dimensions=dimensions))
        pixels, labels = arrays
        if len(pixels) != len(labels) or labels.max(initial=0) >= len(CLASSES[name]):
            raise DataError(
                f"{root} has {len(pixels):,} {part} images, {len(labels):,} labels and the largest label "
                f"{labels.max(initial=0)}, but there must be a label from 0 to 9 for each image"
            )
        splits.append(
            Split(
                torch.tensor(pixels, device="cpu").unsqueeze(3),
                torch.tensor(labels, dtype=torch.int64, device="cpu"),
            )
        )
    mean, std = NORMALISATION[name]
    return InMemorySource(splits[0], splits[1], CLASSES[name], mean, std)
