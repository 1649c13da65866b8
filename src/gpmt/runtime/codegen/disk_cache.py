"""Files of the cache on disk: compiled kernels and tuning results; losing them costs time only."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """Return where compiled kernels and tuning results are kept: $GPMT_CACHE, or gpmt in the user's cache folder."""
    if chosen := os.environ.get("GPMT_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gpmt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpmt"


def read_checked(path: Path) -> bytes | None:
    """Return what `keep_checked` wrote, or None where there is no such file.

    A damaged file, and one that another user can have written, count as none: its code would be run.
    """
    with suppress(OSError), path.open("rb") as file:
        stored = file.read() if _is_ours(os.fstat(file.fileno())) else b""
        if hashlib.sha256(stored[32:]).digest() == stored[:32]:
            return stored[32:]
    return None


def keep_checked(path: Path, data: bytes) -> None:
    """Write a file with its digest in front, which tells a whole file from the rest without waiting for the disk."""
    keep(path, hashlib.sha256(data).digest() + data)


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all, that only this user can change; or give up quietly."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _is_ours(status: os.stat_result) -> bool:
    """Whether nobody but this user and the administrator can have written a file: its code will be run."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
