"""Baselines that do not look at magnitudes across tensors: uniform, ERK and random."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from gpmt.core.keys import CHUNK, KeyFormat, KeySource

Shape = tuple[int, ...]

RANDOM_FORMAT = KeyFormat(torch.float32, torch.int32, 31, 1 << 31)
"""31 random bits; none of them stands for infinity."""


def uniform_counts(shapes: Sequence[Shape], total: int, floors: Sequence[int]) -> list[int]:
    """Share `total` so that all tensors get the same density, as far as their floors allow.

    >>> uniform_counts([(10, 10), (10, 30)], 40, [0, 0])
    [10, 30]
    """
    return share([math.prod(shape) for shape in shapes], shapes, total, floors)


def erk_counts(shapes: Sequence[Shape], total: int, floors: Sequence[int]) -> list[int]:
    """Share `total` by Erdős–Rényi-Kernel: kept weights proportional to the sum of a tensor's dimensions.

    A tensor that would get more than it has is kept whole, and the others share the rest (Evci et al. 2020,
    "Rigging the Lottery", section 3).

    >>> erk_counts([(10, 10), (10, 30)], 30, [0, 0])
    [10, 20]
    """
    return share([sum(shape) for shape in shapes], shapes, total, floors)


def share(weights: Sequence[int], shapes: Sequence[Shape], total: int, floors: Sequence[int]) -> list[int]:
    """Split `total` in proportion to `weights`, each part between its floor and the tensor's size.

    The parts are scale · weight, clipped; the scale is exact, and what rounding down leaves over goes to the
    largest fractions, the first tensor first.
    """
    sizes = [math.prod(shape) for shape in shapes]

    def clipped(scale: Fraction) -> list[Fraction]:
        return [
            min(max(scale * weight, Fraction(floor)), Fraction(size))
            for weight, floor, size in zip(weights, floors, sizes, strict=True)
        ]

    # Between two neighbouring clip points the sum is linear in the scale: find the pair that holds the total.
    clips = {
        Fraction(bound, w) for w, *ends in zip(weights, floors, sizes, strict=True) if w for bound in ends
    }
    points = sorted(clips | {Fraction(0)})
    low, high = 0, len(points) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if sum(clipped(points[middle])) <= total:
            low = middle
        else:
            high = middle
    below, above = clipped(points[low]), clipped(points[high])
    span = sum(above) - sum(below)
    part = (total - sum(below)) / span if span else Fraction(0)
    ideal = [start + part * (end - start) for start, end in zip(below, above, strict=True)]
    counts = [math.floor(value) for value in ideal]
    by_fraction = sorted(range(len(ideal)), key=lambda i: counts[i] - ideal[i])
    for index in by_fraction[: total - sum(counts)]:
        counts[index] += 1
    return counts


class RandomKeys:
    """Keys drawn from a counter-based generator, so that they depend on the seed and the position alone.

    Weight i of tensor t gets 31 bits of SplitMix64 (Steele et al. 2014) at counter t · 2^40 + i: the same on
    every machine and device, however the weights are chunked.
    """

    def __init__(self, source: KeySource, seed: int, tensor: int, *, chunk: int = CHUNK) -> None:
        self.name = source.name
        self.numel = source.numel
        self._base = _wrap((seed << 1 | 1) * 0x9E37_79B9_7F4A_7C15 ^ tensor << 40)
        self._chunk = chunk

    def chunks(self) -> Iterator[Tensor]:
        """Yield int32 CPU tensors of non-negative random keys in flat order."""
        for start in range(0, self.numel, self._chunk):
            counter = torch.arange(start, min(start + self._chunk, self.numel), dtype=torch.int64)
            yield (_mix(counter + self._base) & 0x7FFF_FFFF).to(torch.int32)


def _mix(state: Tensor) -> Tensor:
    """Apply SplitMix64's output function to int64 counters; products wrap around as in unsigned arithmetic."""
    state = state * _wrap(0x9E37_79B9_7F4A_7C15)
    state = (state ^ _logical_shift(state, 30)) * _wrap(0xBF58_476D_1CE4_E5B9)
    state = (state ^ _logical_shift(state, 27)) * _wrap(0x94D0_49BB_1331_11EB)
    return state ^ _logical_shift(state, 31)


def _logical_shift(state: Tensor, distance: int) -> Tensor:
    return (state >> distance) & ((1 << (64 - distance)) - 1)


def _wrap(value: int) -> int:
    """Return the int64 with the same low 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
