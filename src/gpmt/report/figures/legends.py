"""A legend above a figure, in as many columns as fit its width, and the title above it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from gpmt.report.figures.sizes import TALLEST, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HANDLE, _LINE = 0.92, 0.38
"""The width of a marker with its gaps, and the height of a line, in cm."""


def place_legend(figure: Figure, axes: Axes, title: str = "") -> None:
    """Put the title, and the legend of what is labelled in the axes, above the figure, which grows by as much."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        if title:
            axes.set_title(printable(title), loc="left", fontweight="bold")
        return
    width = 2.54 * figure.get_figwidth() - 0.4
    columns = max((count for count in range(1, len(labels) + 1) if _fits(labels, count, width)), default=1)
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=columns,
        title=printable(title) or None,
        title_fontproperties={"weight": "bold", "size": 8},
        alignment="left",
        columnspacing=1.2,
        borderaxespad=0.2,
        handlelength=1.9,
        handletextpad=0.5,
    )
    lines = -(-len(labels) // columns) + bool(title)
    figure.set_figheight(min(figure.get_figheight() + lines * _LINE / 2.54, TALLEST / 2.54))


def _fits(labels: Sequence[str], columns: int, width: float) -> bool:
    """Whether labels, divided among columns as Matplotlib does, are no wider together than `width`."""
    least, more = divmod(len(labels), columns)
    ends = list(accumulate(least + (column < more) for column in range(columns)))
    parts = [labels[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return sum(_HANDLE + max(map(_length, part)) for part in parts) <= width


def _length(text: str) -> float:
    """Return about how long a text is, in cm: small letters and blanks are narrower than others."""
    return sum(0.13 if letter.islower() or letter in " .,:()[]|-" else 0.18 for letter in text)
