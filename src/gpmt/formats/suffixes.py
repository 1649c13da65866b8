"""The suffixes of files that are written, each of which means a format."""

from __future__ import annotations

import os
from pathlib import Path

from gpmt.atomic import check_output
from gpmt.errors import CheckpointError

TORCH_SUFFIXES = (".pt", ".pth", ".th", ".tar")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
SPARSE_SUFFIX = ".sparse.safetensors"

FORMAT_SUFFIXES = {
    "sparse": (SPARSE_SUFFIX, ".safetensors"),
    "dense": SUFFIXES,
    "onnx": (".onnx",),
    "program": (".pt2",),
    "runtime": (".program.safetensors", ".safetensors"),
    "hub": (),
    "csr": TORCH_SUFFIXES,
    "csc": TORCH_SUFFIXES,
}
"""How the files of a format may end; one of `hub` is a folder."""
_MEANT = {suffix[suffix.rindex(".") :] for suffixes in FORMAT_SUFFIXES.values() for suffix in suffixes}


def check_format_suffix(path: str | os.PathLike[str], file_format: str) -> None:
    """Raise `CheckpointError` where the suffix of `path` means another format; any unknown suffix will do."""
    suffixes, suffix = FORMAT_SUFFIXES[file_format], Path(path).suffix.lower()
    if suffix not in _MEANT or suffix in suffixes:
        return
    if not suffixes:
        raise CheckpointError(
            f"{path} has the suffix {suffix}, but {file_format} is a folder; give it a name without"
        )
    raise CheckpointError(
        f"{path} has the suffix {suffix}, but {file_format} is written as {suffixes[0]}; name it "
        f"{Path(path).with_suffix('').name}{suffixes[0]}, or give another FORMAT"
    )


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise `CheckpointError` unless the suffix of `path` names a format, and `path` looks writable."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path} has the suffix {suffix or '(none)'}, but an output must end in {', '.join(SUFFIXES)}"
        )
    check_output(path)
