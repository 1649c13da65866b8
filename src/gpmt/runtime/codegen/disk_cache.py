"""The cache on disk: compiled kernels and tuning results. Deleting it costs time only."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache's folder: $GPMT_CACHE, or gpmt in the user's cache folder."""
    if path := os.environ.get("GPMT_CACHE"):
        return Path(path)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gpmt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpmt"


def read_checked(path: Path) -> bytes | None:
    """Return the data that `write_checked` wrote, or None where there is no such file.

    Also None for a damaged file, and for one that another user may have written, since its code would be run.
    """
    with suppress(OSError), path.open("rb") as file:
        stored = file.read() if _is_trusted(os.fstat(file.fileno())) else b""
        if hashlib.sha256(stored[32:]).digest() == stored[:32]:
            return stored[32:]
    return None


def write_checked(path: Path, data: bytes) -> None:
    """Write a file that begins with the digest of its data, so that a damaged file is noticed when it is read."""
    write(path, hashlib.sha256(data).digest() + data)


def write(path: Path, data: bytes) -> None:
    """Write a file that only this user can change, whole or not at all; do nothing if the disk does not allow it."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _is_trusted(status: os.stat_result) -> bool:
    """Whether only this user and the administrator can have written a file."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
