"""Locks that are free in the child of a fork, whatever the other threads of the parent were doing."""

from __future__ import annotations

import os
import threading
import weakref

from gpmt.errors import RuntimeProgramError


class Lock:
    """What one thread at a time holds, as often as it likes, in a `with` statement."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()


class Turn(Lock):
    """A lock for what cannot be begun again before it has ended, as a signal's handler might.

    Raises:
        RuntimeProgramError: on entering, where this thread holds it already.
    """

    def __init__(self) -> None:
        super().__init__()
        self._taken = False

    def __enter__(self) -> None:
        super().__enter__()
        if self._taken:
            super().__exit__()
            raise RuntimeProgramError(
                "the program was called in the middle of a call of itself by the same thread, as by a signal's "
                "handler; compile another program for that"
            )
        self._taken = True

    def __exit__(self, *error: object) -> None:
        self._taken = False
        super().__exit__()

    def _renew(self) -> None:
        super()._renew()
        self._taken = False


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _after_fork() -> None:
    for lock in list(_locks):
        lock._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
