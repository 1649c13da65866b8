"""Counting keys and packing masks: numba loops on the CPU, the same in torch operations on other devices.

Every function takes a 1-D int32 or int64 tensor of keys whose sign bit is ignored, and works on integers
only, so the results do not depend on the device, the number of threads or the size of a chunk. The numba
loops release the GIL and are compiled on first use, then cached on disk.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Counts = NDArray[np.int64]
Bits = NDArray[np.uint8]

TOP_BINS = 1 << 15
BINS = 1 << 16


def count_top_digit(keys: Tensor, *, bits: int, histogram: Counts) -> None:
    """Add to `histogram` [2^15] how often each value of the top 15 of `bits` key bits occurs."""
    if keys.device.type == "cpu":
        unsigned, word = _unsigned(keys)
        _count_top_digit(unsigned, word(TOP_BINS - 1), word(bits - 15), histogram)
    else:
        digits = (keys >> (bits - 15)) & (TOP_BINS - 1)
        histogram += torch.bincount(digits, minlength=TOP_BINS).cpu().numpy()


def count_digit(keys: Tensor, *, bits: int, shift: int, prefixes: Counts, histograms: Counts) -> None:
    """Add to `histograms` [len(prefixes), 2^16] the digit at `shift` of the keys that start with each prefix.

    `prefixes` are the leading key bits above the digit, sorted, distinct and fewer than 128.
    """
    above = shift + 16
    if keys.device.type == "cpu":
        unsigned, word = _unsigned(keys)
        first = np.full(TOP_BINS, -1, np.int8)  # small enough for the L1 cache
        rows = np.arange(len(prefixes), dtype=np.int8)
        first[(prefixes >> (bits - 15 - above))[::-1]] = rows[::-1]
        mask = word((1 << bits) - 1)
        if above == bits - 15:  # the second digit: a prefix is a top digit, so `first` decides alone
            _count_second_digit(unsigned, mask, word(above), word(shift), first, histograms)
        else:
            top, prefixes = word(bits - 15), prefixes.astype(word)
            _count_digit(unsigned, mask, top, word(above), word(shift), first, prefixes, histograms)
    else:
        keys = keys & ((1 << bits) - 1)
        for row, prefix in enumerate(prefixes.tolist()):
            digits = (keys[keys >> above == prefix] >> shift) & (BINS - 1)
            histograms[row] += torch.bincount(digits, minlength=BINS).cpu().numpy()


def sum_squares(keys: Tensor, *, counts: Counts, squares: NDArray[np.float64]) -> None:
    """Add to `counts` and `squares` [2^15] the float32 weights with each top digit, and their squares.

    The squares are summed in flat order. `keys` are the bits of float32 weights on the CPU.
    """
    _sum_squares(keys.numpy().view(np.uint32), keys.numpy().view(np.float32), counts, squares)


def count_above(keys: Tensor, *, bits: int, threshold: int) -> tuple[int, int]:
    """Return how many keys are larger than `threshold`, and how many are equal to it."""
    if keys.device.type == "cpu":
        unsigned, word = _unsigned(keys)
        above, equal = _count_above(unsigned, word((1 << bits) - 1), word(threshold))
    else:
        keys = keys & ((1 << bits) - 1)
        above, equal = (keys > threshold).sum(), (keys == threshold).sum()
    return int(above), int(equal)


def pack_kept(
    keys: Tensor, *, bits: int, threshold: int, ties: int, packed: Bits, start: int
) -> tuple[int, int]:
    """Set the bits from `start` on for keys above `threshold` and for the first `ties` keys equal to it.

    `packed` holds bit i at byte i // 8, bit i % 8, and is zero from `start` on. Returns how many bits were
    set for keys above the threshold, and how many for keys equal to it.
    """
    if keys.device.type == "cpu":
        unsigned, word = _unsigned(keys)
        mask, key = word((1 << bits) - 1), word(threshold)
        above, equal = _count_above(unsigned, mask, key)
        _pack_above(unsigned, mask, key, packed, start)
        tied = _pack_ties(unsigned, mask, key, ties, packed, start) if ties and equal else 0
        return int(above), int(tied)
    keys = keys & ((1 << bits) - 1)
    larger, equals = keys > threshold, keys == threshold
    tied = equals & (equals.cumsum(0) <= ties)
    aligned = np.zeros(start % 8 + len(keys), np.bool_)
    aligned[start % 8 :] = (larger | tied).cpu().numpy()
    chunk = np.packbits(aligned, bitorder="little")
    packed[start // 8 : start // 8 + len(chunk)] |= chunk
    return int(larger.sum()), int(tied.sum())


def find_rank(histogram: Counts, rank: int) -> tuple[int, int]:
    """Return the bin that holds the `rank`-th largest (counted from 1), and how many lie in bins above it."""
    digit, above = _find_rank(histogram, rank)
    return int(digit), int(above)


def zero_pruned(weights: Tensor, packed: Bits) -> None:
    """Set to +0.0, in place, the weights of a contiguous 1-D CPU tensor whose bit in `packed` is clear."""
    integer = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[weights.element_size()]
    _zero_pruned(weights.view(integer).numpy(), packed)


def _unsigned(keys: Tensor) -> tuple[Any, Any]:
    """Return the keys as an unsigned NumPy array, and its scalar type: constants in it keep the loops narrow."""
    word = np.uint32 if keys.dtype == torch.int32 else np.uint64
    return keys.numpy().view(word), word


_jit = numba.njit(nogil=True, cache=True)


@_jit
def _count_top_digit(keys, top_mask, top, histogram):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        histogram[(keys[i] >> top) & top_mask] += 1


@_jit
def _count_second_digit(keys, mask, above, shift, first, histograms):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        key = keys[i] & mask
        row = first[key >> above]
        if row >= 0:
            histograms[row, (key >> shift) & 0xFFFF] += 1


@_jit
def _count_digit(keys, mask, top, above, shift, first, prefixes, histograms):  # type: ignore[no-untyped-def]
    # `first` maps a top digit to the first prefix that starts with it; prefixes are sorted, so the match
    # is found by walking on from there. Most keys match nothing and cost one look-up.
    rows = prefixes.size
    for i in range(keys.size):
        key = keys[i] & mask
        row = first[key >> top]
        if row >= 0:
            prefix = key >> above
            while row < rows and prefixes[row] < prefix:
                row += 1
            if row < rows and prefixes[row] == prefix:
                histograms[row, (key >> shift) & mask & 0xFFFF] += 1


@_jit
def _sum_squares(keys, weights, counts, squares):  # type: ignore[no-untyped-def]
    for i in range(keys.size):
        digit = (keys[i] >> 16) & 0x7FFF
        counts[digit] += 1
        squares[digit] += np.float64(weights[i]) * np.float64(weights[i])


@_jit
def _count_above(keys, mask, threshold):  # type: ignore[no-untyped-def]
    # 32-bit counters let the loop use whole vectors of 32-bit lanes; a chunk is far below 2^32.
    above = np.uint32(0)
    equal = np.uint32(0)
    for i in range(keys.size):
        key = keys[i] & mask
        above = np.uint32(above + (key > threshold))
        equal = np.uint32(equal + (key == threshold))
    return above, equal


@_jit
def _pack_above(keys, mask, threshold, packed, start):  # type: ignore[no-untyped-def]
    if start % 8:
        for i in range(keys.size):
            larger = np.uint8((keys[i] & mask) > threshold)
            packed[(start + i) >> 3] |= larger << ((start + i) & 7)
        return
    whole = keys.size // 8
    bytes_ = packed[start >> 3 :]
    for byte in range(whole):
        bits = np.uint8(0)
        for j in range(8):
            bits |= np.uint8(((keys[8 * byte + j] & mask) > threshold) << j)
        bytes_[byte] = bits
    for i in range(8 * whole, keys.size):
        bytes_[whole] |= np.uint8(((keys[i] & mask) > threshold) << (i & 7))


@_jit
def _pack_ties(keys, mask, threshold, ties, packed, start):  # type: ignore[no-untyped-def]
    tied = 0
    for i in range(keys.size):
        if keys[i] & mask == threshold:
            if tied == ties:
                break
            packed[(start + i) >> 3] |= np.uint8(1 << ((start + i) & 7))
            tied += 1
    return tied


@_jit
def _find_rank(histogram, rank):  # type: ignore[no-untyped-def]
    above = 0
    digit = histogram.size - 1
    while above + histogram[digit] < rank:
        above += histogram[digit]
        digit -= 1
    return digit, above


@_jit
def _zero_pruned(weights, packed):  # type: ignore[no-untyped-def]
    # An "and" with all ones or all zeros: a product would turn inf into NaN, and a negative weight into -0.
    whole = weights.size // 8
    for byte in range(whole):
        kept = packed[byte]
        for j in range(8):
            weights[8 * byte + j] &= -((kept >> j) & 1)
    for i in range(8 * whole, weights.size):
        weights[i] &= -((packed[i >> 3] >> (i & 7)) & 1)
