"""An axis of sparsities, which spreads those near 1 where they span a wide range of densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpmt.report.figures.sizes import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_USUAL = (0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_SPREAD = 4
"""Largest by smallest density, from which on the axis is that of the logarithm of the density."""
_LAST = 1 - 1e-9
_LETTER = 0.062
"""The width of a letter of a tick, in inches."""


def set_up_sparsities(axes: Axes, sparsities: Sequence[float], width: float) -> None:
    """Make the x axis one of sparsities from 0 to 1, with ticks at those that there are, as far as they have room.

    Args:
        axes: those of the figure.
        sparsities: of the points that are drawn.
        width: of the axes, in inches.
    """
    low, high = min(sparsities), max(sparsities)
    spread = (1 - low) > _SPREAD * max(1 - high, 1e-9)
    if spread:
        axes.set_xscale("function", functions=(_to_axis, _from_axis))
    place = _to_axis if spread else float
    start, end = float(place(low)), float(place(high))
    margin = 0.05 * (end - start) or 0.02
    ticks = _with_room(sorted({round(value, 6) for value in sparsities}), place, start, end, width)
    axes.set_xticks(ticks, [_label(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    back = _from_axis if spread else float
    axes.set_xlim(float(back(start - margin)), float(back(end + margin)))
    axes.set_xlabel("sparsity")


def _label(sparsity: float) -> str:
    """Format a sparsity that was counted, of which three digits of the density are shown: 79.9993 % is 80 %."""
    return percent(1 - float(f"{1 - sparsity:.3g}"))


def _to_axis(sparsity: Any) -> Any:
    import numpy as np

    return -np.log10(1 - np.clip(sparsity, -1e9, _LAST))


def _from_axis(place: Any) -> Any:
    import numpy as np

    return 1 - 10.0 ** -np.asarray(place)


def _with_room(values: Sequence[float], place: Any, start: float, end: float, width: float) -> list[float]:
    """Return those of the values whose labels do not touch, the last one first; usual ones where there are many."""
    if len(values) > 12:
        values = [value for value in _USUAL if values[0] <= value <= values[-1]] or values
    inch = width / ((end - start) * 1.1 or 1)
    shown: list[float] = []
    left = float("inf")
    for value in reversed(values):
        half = _LETTER * (len(_label(value)) + 1) / 2
        middle = (float(place(value)) - start) * inch
        if middle + half <= left:
            shown.append(value)
            left = middle - half
    return shown[::-1]
