"""The trees of JPEG files that `jpeg_tree` makes, and how they are loaded here."""

from pathlib import Path

from gpmt.training.data import datasets
from gpmt.training.data.file_source import FileSource

CLASSES = ("n01440764", "n01443537", "n01484850")


def load_tree(root: Path, *, size: int = 16, workers: int = 0, **options) -> FileSource:
    return datasets.load("imagenet", root=root, size=size, workers=workers, **options)
