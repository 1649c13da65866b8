"""The folder that holds the files of a data set, and how reading them reports its progress."""

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from gpmt.errors import DataError

Track = Callable[[Iterable[Tensor], str, int], Iterable[Tensor]]
"""Wraps slow iteration over so many items in a progress bar with a title."""


def check_root(root: Path | None, name: str, expected: str) -> Path:
    """Return `root` if it is a folder; DataError says what data set `name` expects in it."""
    if root is None:
        raise DataError(f"data.root is not given; give data.root=FOLDER, where the folder holds {expected}")
    root = root.expanduser()
    if not root.is_dir():
        raise DataError(f"data.root is {root}, which is not a folder; for {name} it must hold {expected}")
    return root
