"""Files of torch.save, read without running code from their pickles."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from gpmt.errors import CheckpointError
from gpmt.formats.file_format import RESAVE, weights_format
from gpmt.formats.numpy_scalars import NUMPY_GLOBALS

PickleGlobals = Iterable[tuple[Callable[..., Any], str]]
"""Pairs of a callable, and the name of the global in whose place it is called."""


def read_torch(path: Path, further: PickleGlobals = ()) -> Any:
    """Return what a file of torch.save holds, without running code from it.

    It may hold tensors, plain Python values, NumPy numbers (which become Python numbers) and arrays, and
    ``argparse.Namespace``; `further` allows more globals. Raises `CheckpointError` for a file that is damaged, or
    needs any other global.
    """
    # Pairs, not bare classes: leaving the block must not take away what the user has allowed.
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (argparse.Namespace, "argparse.Namespace"),
        *NUMPY_GLOBALS,
        *further,
    ]
    mapped = weights_format(path) == "zip" and path.suffix.lower() != ".safetensors"
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed), path.open("rb") as file:
            warnings.simplefilter("ignore")
            # torch.load goes by the suffix .safetensors when it is given a path, whatever the content.
            return torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged file can make an unpickler raise anything
        text = str(error)
        if program := _program(path):
            kind, opened = program
            raise CheckpointError(
                f"{path} is {kind}, whose code is not run; give its weights, which "
                f"torch.save({opened}, 'weights.pt') writes"
            ) from None
        if needs := re.search(
            r"GLOBAL (\S+) |unsupported GLOBAL (\S+)|reduce for unrecognized function (\S+)", text
        ):
            name = next(filter(None, needs.groups()))
            raise CheckpointError(
                f"{path} would run code from its pickle (it needs {name}), which is refused; {RESAVE}"
            ) from None
        raise CheckpointError(
            f"{path} is truncated or damaged ({type(error).__name__}); copy or download it again"
        ) from error


def _program(path: Path) -> tuple[str, str] | None:
    """Return what kind of program a file is, by the names in its archive, and the Python that gives its weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except Exception:  # a damaged archive can make its reader raise anything
        return None
    if names & {"archive_format", "serialized_exported_program.json"}:
        return "a program of torch.export (.pt2)", f"torch.export.load({str(path)!r}).state_dict"
    if "constants.pkl" in names:
        return "a TorchScript program", f"torch.jit.load({str(path)!r}).state_dict()"
    return None
