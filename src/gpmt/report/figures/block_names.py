"""Room for the names of many blocks: lines with a name each, or ticks for groups of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from gpmt.report.figures.sizes import shortened
from gpmt.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LETTER = 0.055
"""The width of a letter of a tick, in inches."""


def height_of_names(count: int) -> float:
    """Return the height in cm of a figure with so many lines of text and an axis."""
    return 1.2 + 0.34 * max(count, 2)


def groups(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Divide blocks by how their names begin: (beginning, first place, number) of what stands together.

    Names are cut at the fewest dots that make at least three groups.

    >>> groups(["stem.weight", "layer1.0.a", "layer1.0.b", "layer1.1.a", "head.weight"])
    [('stem', 0, 1), ('layer1', 1, 3), ('head', 4, 1)]
    """
    parts = [name.split(".") for name in names]
    found: list[tuple[str, int, int]] = []
    for depth in range(1, max(map(len, parts)) + 1):
        found, place = [], 0
        for start, members in groupby(parts, key=lambda part, depth=depth: ".".join(part[:depth])):  # type: ignore[misc]
            size = len(list(members))
            found.append((start, place, size))
            place += size
        if len(found) >= 3:
            break
    return found


def group_ticks(axes: Axes, names: Sequence[str], width: float) -> None:
    """Name groups of blocks below the x axis, those that have room in a width in inches, with lines between them."""
    found = groups(names)
    if len(found) > 40:
        return
    room = 0.85 * width / len(names)
    shown, end = [], -1.0
    for name, first, size in found:
        text = shortened(name, 14)
        middle = first + (size - 1) / 2
        start = middle * room - _LETTER * len(text) / 2
        if start > end:
            shown.append((middle, text))
            end = middle * room + _LETTER * (len(text) / 2 + 1.5)
    for _, first, _ in found[1:]:
        axes.axvline(first - 0.5, color=LIGHT.grid, linewidth=0.4, zorder=0)
    axes.grid(visible=False, axis="x")
    axes.set_xticks([middle for middle, _ in shown], [text for _, text in shown])
    axes.tick_params(axis="x", length=0)
