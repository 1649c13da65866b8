"""The one private interface of llvmlite that gpmt uses; no other module names it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import llvmlite.binding as llvm


def library_lock() -> AbstractContextManager[Any]:
    """Return the lock that llvmlite holds in every call of LLVM, also where it frees something.

    While a thread holds it, no other thread is inside LLVM. llvmlite has a public way to learn of the lock, but none
    to take it.
    """
    lock: AbstractContextManager[Any] = llvm.ffi.lib._lock
    return lock
