"""Files that another file names: they must be in its folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PureWindowsPath

from gpmt.errors import CheckpointError
from gpmt.formats.short_repr import short_repr


def named_file(folder: Path, name: object, named_by: Path) -> Path:
    """Return the regular file `name` inside `folder`, as `named_by` asks for it.

    Raises `CheckpointError` for a name that is absolute or climbs out with "..", a link that leads out of the
    folder, and a file that is missing or not a regular one. A link from a snapshot of the Hugging Face cache to
    the blobs beside it is followed, since that cache stores its files so.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise CheckpointError(
            f"{named_by} names {short_repr(name)}, which is not the name of a file; it is damaged"
        )
    parts = PureWindowsPath(name)  # which knows both kinds of separators, and drives
    if parts.anchor or ".." in parts.parts:
        raise CheckpointError(
            f"{named_by} names {short_repr(name)}, which may lie outside {folder}; only files inside it are read"
        )
    path = folder / name
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(root) for root in _roots(folder)):
        raise CheckpointError(
            f"{named_by} names {short_repr(name)}, a link that leads out of {folder}; put a copy in its place"
        )
    try:
        mode = real.stat().st_mode
    except FileNotFoundError:
        raise CheckpointError(
            f"{named_by} names {short_repr(name)}, which is missing in {folder}; copy or download it again"
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"{named_by} names {short_repr(name)}, which cannot be read: {error.strerror}; check it and its "
            "permissions"
        ) from None
    if not stat.S_ISREG(mode):
        raise CheckpointError(
            f"{named_by} names {short_repr(name)}, which is not a regular file; put the file in its place"
        )
    return path


def _roots(folder: Path) -> list[Path]:
    real = Path(os.path.realpath(folder))
    blobs = [
        place.parent.parent / "blobs" for place in (real, *real.parents) if place.parent.name == "snapshots"
    ]
    return [real, *blobs]
