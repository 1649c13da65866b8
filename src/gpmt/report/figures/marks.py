"""The dashes and markers of the palette as Matplotlib draws them."""

from __future__ import annotations

from typing import Any

from gpmt.report.palette import Dash, Marker, Style

MATPLOTLIB_MARKERS: dict[Marker, str] = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "x": "X",
}
MATPLOTLIB_DASHES: dict[Dash, tuple[int, tuple[float, ...]]] = {
    "solid": (0, ()),
    "dash": (0, (4, 1.5)),
    "dashdot": (0, (5, 1.5, 1, 1.5)),
    "dot": (0, (1, 1.2)),
    "longdash": (0, (7, 1.5)),
    "longdashdot": (0, (7, 1.5, 1, 1.5, 1, 1.5)),
}
"""Lengths of strokes and gaps, in widths of the line."""


def line_look(style: Style) -> dict[str, Any]:
    """Return the colour, the dash and the marker of a series, as arguments of `Axes.plot`."""
    return {
        "color": style.colour,
        "linestyle": MATPLOTLIB_DASHES[style.dash],
        "marker": MATPLOTLIB_MARKERS[style.marker],
    }
