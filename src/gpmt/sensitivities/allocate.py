"""A total of pruned weights, shared among blocks so that the sum of what each costs alone is smallest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from gpmt.errors import BudgetError


@dataclass(frozen=True)
class Cost:
    """What pruning one block costs.

    Attributes:
        points: how many of its weights are pruned, and the cost of it, for at least one number; one is (0, 0).
        most: how many may be pruned, at most as many as the points go to.
    """

    points: tuple[tuple[int, float], ...]
    most: int


def allocate(costs: Sequence[Cost], pruned: int) -> list[int]:
    """Return how many weights each block loses, exactly `pruned` together, at the smallest sum of the costs.

    The cost between two points is taken to be on the line between them, and that of each block to be convex: its
    points that lie above the lower convex hull count as on it. Then taking the weights in the order of the slopes of
    all hulls, the flattest first, gives the smallest sum; it is the exact minimum over whole numbers, since hulls
    bend at whole numbers only. At equal slopes, the first block goes first. That the costs of blocks add up is an
    assumption, which holds less, the more is pruned.

    Args:
        costs: those of the blocks, finite.
        pruned: the total.

    Raises:
        BudgetError: more than the blocks may lose together.

    >>> allocate([Cost(((0, 0.0), (4, 1.0), (8, 6.0)), 8), Cost(((0, 0.0), (8, 4.0)), 8)], 10)
    [4, 6]
    """
    room = sum(cost.most for cost in costs)
    if pruned > room:
        raise BudgetError(
            f"{pruned:,} weights are to be pruned, but the blocks may lose {room:,}; ask for fewer, or measure "
            "higher sparsities"
        )
    segments = sorted(
        (slope, place, length) for place, cost in enumerate(costs) for slope, length in _segments(cost)
    )
    taken, left = [0] * len(costs), pruned
    for _, place, length in segments:
        step = min(length, left)
        taken[place] += step
        left -= step
    return taken


def convex(points: Sequence[tuple[int, float]]) -> list[tuple[int, Fraction]]:
    """Return the corners of the lower convex hull of points, from left to right, with exact costs.

    >>> convex([(0, 0.0), (2, 3.0), (4, 2.0)])
    [(0, Fraction(0, 1)), (4, Fraction(2, 1))]
    """
    hull: list[tuple[int, Fraction]] = []
    for number, cost in sorted((number, Fraction(cost)) for number, cost in points):
        if hull and hull[-1][0] == number:  # the cheaper came first
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], (number, cost)):
            hull.pop()
        hull.append((number, cost))
    return hull


def _segments(cost: Cost) -> list[tuple[Fraction, int]]:
    """Return slope and length of the parts of a hull, as far as the block may be pruned."""
    hull, found = convex(cost.points), []
    for start, end in itertools.pairwise(hull):
        length = min(end[0], cost.most) - start[0]
        if length > 0:
            found.append((_slope(start, end), length))
    return found


def _slope(start: tuple[int, Fraction], end: tuple[int, Fraction]) -> Fraction:
    return (end[1] - start[1]) / (end[0] - start[0])
