"""The loops of soft masks over contiguous float32 weights on the CPU, one pass each where tensors would take ten."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray

Loop = Callable[[NDArray[np.float32], np.float32, int, np.float32, NDArray[np.float32]], None]
"""Writes T(w) of flat weights into the last array: of the weights above a limit, and of the first few equal to it. In
between stand the limit, how many of those, and the threshold t."""

_CHUNK = 1024
_THIRD, _ROOT = np.float32(1 / 3), np.int32(0x2A51_4067)
"""A third of a float's bits, and a constant more, are the bits of about its cube root."""

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")
# Sums of rows as vectors: in any order, but always in the same one.
_sums = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})


@_jit
def feather3(weights, limit, ties, threshold, shown):  # type: ignore[no-untyped-def]
    """Write sign(w) · (|w|³ − t³)^(1/3) for weights above the limit and the first `ties` equal to it, else 0."""
    over = np.empty(_CHUNK, np.float32)
    bits = over.view(np.int32)
    guess = np.empty(_CHUNK, np.int32)
    root = guess.view(np.float32)
    for start in range(0, weights.size, _CHUNK):
        count = min(_CHUNK, weights.size - start)
        for i in range(count):
            # Of pruned weights any number in (0, 1] will do.
            magnitude = max(abs(weights[start + i]), limit)
            x = (magnitude - threshold) / magnitude
            over[i] = x * (np.float32(3) - x * (np.float32(3) - x))
        for i in range(count):
            guess[i] = np.int32(np.float32(bits[i]) * _THIRD) + _ROOT
        for i in range(count):
            y, r = over[i], root[i]
            for _ in range(2):  # by Halley
                cube = r * r * r
                r = r * (cube + y + y) / (cube + cube + y)
            weight = weights[start + i]
            shown[start + i] = weight * r if abs(weight) > limit else np.float32(0)
    if ties:
        y = (limit - threshold) / limit
        y = y * (np.float32(3) - y * (np.float32(3) - y))
        _tie(weights, limit, ties, limit * np.float32(np.float64(y) ** (1 / 3)), shown)


@_jit
def soft(weights, limit, ties, threshold, shown):  # type: ignore[no-untyped-def]
    """Write sign(w) · (|w| − t) for weights above the limit and the first `ties` equal to it, 0 for others."""
    for i in range(weights.size):
        weight = weights[i]
        shrunk = weight - threshold if weight > 0 else weight + threshold
        shown[i] = shrunk if abs(weight) > limit else np.float32(0)
    if ties:
        _tie(weights, limit, ties, limit - threshold, shown)


@_jit
def _tie(weights, limit, ties, value, shown):  # type: ignore[no-untyped-def]
    """Write ±value for the first `ties` weights whose magnitude equals the limit."""
    for i in range(weights.size):
        if abs(weights[i]) == limit:
            shown[i] = value if weights[i] > 0 else -value
            ties -= 1
            if not ties:
                return


@_sums
def rescale(weights, shown, width):  # type: ignore[no-untyped-def]
    """Multiply each row of `shown` by 1.01 / (r + 0.01), r the share of its magnitude where `shown` is not zero."""
    for start in range(0, weights.size, width):
        total, kept = 0.0, 0.0
        for i in range(start, start + width):
            magnitude = np.float64(abs(weights[i]))
            total += magnitude
            kept += magnitude if shown[i] != 0 else 0.0
        share = kept / total if total > 0 else 1.0
        scale = np.float32(1.01 / (share + 0.01))
        for i in range(start, start + width):
            shown[i] *= scale


@_jit
def scale_pruned(gradients, shown, scale):  # type: ignore[no-untyped-def]
    """Multiply the gradients of weights that are shown as zero by `scale`."""
    for i in range(gradients.size):
        gradient = gradients[i]
        gradients[i] = gradient * scale if shown[i] == 0 else gradient
