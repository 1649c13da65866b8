"""Loops over runs of keys on the CPU, which numba compiles."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from gpmt.core.keys.pool_loops import select_largest

_FEW = 16
"""Up to this length every key of a run is compared with every other, without a branch."""


def mark(keys: NDArray[np.int32 | np.int64], length: int, kept: int, marks: NDArray[np.bool_]) -> None:
    """Set marks[i] for the `kept` largest keys of each run of `length`, the first of equal ones; clear the others."""
    few: Any = _mark_few if length <= _FEW else _mark_many
    few(keys, length, kept, marks)


_jit = numba.njit(nogil=True, cache=True)


@_jit
def _mark_few(keys, length, kept, marks):  # type: ignore[no-untyped-def]
    for start in range(0, keys.size, length):
        run = keys[start : start + length]
        for i in range(length):
            key, before = run[i], 0
            for j in range(i):
                before += run[j] >= key
            for j in range(i + 1, length):
                before += run[j] > key
            marks[start + i] = before < kept


@_jit
def _mark_many(keys, length, kept, marks):  # type: ignore[no-untyped-def]
    scratch = np.empty(length, keys.dtype)
    for start in range(0, keys.size, length):
        run = keys[start : start + length]
        if kept == 0 or kept == length:
            marks[start : start + length] = kept > 0
            continue
        scratch[:] = run
        select_largest(scratch, 0, length, kept)
        smallest, ties = scratch[kept - 1], kept
        for i in range(kept):
            ties -= scratch[i] > smallest
        for i in range(length):
            tied = run[i] == smallest
            marks[start + i] = run[i] > smallest or (tied and ties > 0)
            ties -= tied
