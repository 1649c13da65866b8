"""Locks that are released in the child of a fork, whatever the other threads of the parent were doing.

They are Python's own, to be held by a `with` statement directly: an exception from a signal handler, such as
KeyboardInterrupt, then always releases the lock, which code that acquires it in Python cannot promise.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from gpmt.errors import RuntimeProgramError


def new_lock() -> Any:
    """Return a `threading.RLock` that is released in the child of a fork."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def refuse_reentry(lock: Any) -> None:
    """Check that this thread does not hold a lock, before code that is not reentrant.

    Raises:
        RuntimeProgramError: the thread holds it, as a signal handler may find.
    """
    if lock._is_owned():
        raise RuntimeProgramError(
            "the program was called in the middle of a call of itself by the same thread, as by a signal's handler; "
            "compile another program for that"
        )


_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
