"""The Pareto front of points that cost something and are good for something."""

from collections.abc import Sequence


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (cost, accuracy) that no other is better than, from the cheapest on.

    A point is better than another if it costs no more and is no less accurate, and differs. Of equal points the first
    is on the front.

    >>> pareto([(3, 0.9), (1, 0.5), (2, 0.4), (4, 0.8), (1, 0.3)])
    [1, 0]
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front
