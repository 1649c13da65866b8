"""Split a total in proportion to weights, each part between bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def share(weights: Sequence[int], sizes: Sequence[int], total: int, floors: Sequence[int]) -> list[int]:
    """Split `total` in proportion to `weights`, each part between its floor and its size.

    The parts are scale · weight, clipped; the scale is exact, and the remainder of rounding down goes to the
    largest fractions, the first tensor first. Needs sum(floors) <= total <= sum(sizes).

    >>> share([1, 3], [100, 300], 40, [0, 0]), share([1, 3], [100, 300], 40, [15, 0])
    ([10, 30], [15, 25])
    """

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
