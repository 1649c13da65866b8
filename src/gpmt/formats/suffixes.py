"""The suffixes of files that are written, each of which means a format."""

from __future__ import annotations

import os
from pathlib import Path

from gpmt.atomic import check_output
from gpmt.errors import CheckpointError

TORCH_SUFFIXES = (".pt", ".pth", ".th", ".tar")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
SPARSE_SUFFIX = ".sparse.safetensors"


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise `CheckpointError` unless the suffix of `path` names a format, and `path` looks writable."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path} has the suffix {suffix or '(none)'}, but an output must end in {', '.join(SUFFIXES)}"
        )
    check_output(path)
