"""log.txt of a run: locked while the run writes it, and its last line tells how a run ended that has no result."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG = "log.txt"
INTERRUPTED, STOPPED, FAILED, DIVERGED = "interrupted", "stopped", "failed", "diverged"
NOT_FINITE = "the loss became"
"""What the error of a training begins with whose loss is not finite."""
_ENDING = re.compile(rf"\S+ \S+ ({INTERRUPTED}|{STOPPED}|{FAILED}|{DIVERGED}):? (.+)")
_TAIL = 1 << 13
"""Bytes at the end of a log that are looked at."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a file exclusively while the block runs; if the process is killed, the system releases the lock."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds a file by `locked`; always False on Windows, and where the file cannot be read."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def ending(path: Path) -> tuple[str, str] | None:
    """Return how a run ended, as its log says in the last line: the word, and what follows; None if it does not say.

    The word is one of `INTERRUPTED`, `STOPPED`, `FAILED` and `DIVERGED`.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = _ENDING.fullmatch(lines[-1]) if lines else None
    return None if found is None else (found[1], found[2])
