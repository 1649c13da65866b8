"""Loops over keys that have been collected, source by source; compiled on first use and cached on disk."""

from __future__ import annotations

import numba

_jit = numba.njit(nogil=True, cache=True)


@_jit
def select_largest(keys, low, high, rank):  # type: ignore[no-untyped-def]
    """Reorder keys[low:high] so that its `rank` largest come first, the smallest of them last (Hoare 1961)."""
    target = low + rank - 1
    high -= 1
    while low < high:
        pivot = keys[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            return


@_jit
def outside(keys, offsets, lengths, lower, upper, take, out):  # type: ignore[no-untyped-def]
    """Copy the keys in [lower, upper) to `out` without the take[array] largest of each array; return how many.

    A negative take[array] leaves out none.
    """
    stored = 0
    for array in range(offsets.size):
        first = stored
        for i in range(offsets[array], offsets[array] + lengths[array]):
            if lower <= keys[i] < upper:
                out[stored] = keys[i]
                stored += 1
        taken = min(take[array], stored - first)
        if taken == stored - first:
            stored = first
        elif taken > 0:
            select_largest(out, first, stored, taken)
            for i in range(min(taken, stored - first - taken)):
                out[first + i] = out[stored - 1 - i]
            stored -= taken
    return stored


@_jit
def count_inside(keys, offsets, lengths, lower, upper, counts):  # type: ignore[no-untyped-def]
    """Count the keys of each array in [lower, upper): counts[array]."""
    for array in range(offsets.size):
        count = 0
        for i in range(offsets[array], offsets[array] + lengths[array]):
            count += lower <= keys[i] < upper
        counts[array] = count
