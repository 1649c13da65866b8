"""The loops of LAMP over the bits of float32 weights: compiled on first use, cached on disk; they release the GIL."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

TOP_BINS = 1 << 15
BINS = 1 << 16


def sum_squares(keys: Tensor, *, counts: NDArray[np.int64], squares: NDArray[np.float64]) -> None:
    """Add to `counts` and `squares` [2^15] the weights with each leading half of their key, and their squares.

    The squares are summed in flat order. `keys` are the bits of float32 weights on the CPU.
    """
    _sum_squares(keys.numpy().view(np.uint32), keys.numpy().view(np.float32), counts, squares)


def count_low_halves(keys: Tensor, *, tops: NDArray[np.int64], histograms: NDArray[np.int64]) -> None:
    """Add to `histograms` [len(tops), 2^16] the low half of each key whose leading half is one of `tops`.

    `keys` are as in `sum_squares`; `tops` are sorted and distinct.
    """
    rows = np.full(TOP_BINS, -1, np.int16)
    rows[tops] = np.arange(len(tops), dtype=np.int16)
    _count_low_halves(keys.numpy().view(np.uint32), rows, histograms)


_jit = numba.njit(nogil=True, cache=True)


@_jit
def _sum_squares(keys, weights, counts, squares):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        top = (keys[i] >> 16) & 0x7FFF
        counts[top] += 1
        squares[top] += np.float64(weights[i]) * np.float64(weights[i])


@_jit
def _count_low_halves(keys, rows, histograms):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        row = rows[(keys[i] >> 16) & 0x7FFF]
        if row >= 0:
            histograms[row, keys[i] & 0xFFFF] += 1
