"""The colours of pages, figures and notebooks: safe for the colour-blind, and never alone in telling lines apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dash = Literal["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]
Marker = Literal["circle", "square", "diamond", "triangle-up", "triangle-down", "x"]

DASHES: tuple[Dash, ...] = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
"""The lines of series, in order; the names are Plotly's."""
MARKERS: tuple[Marker, ...] = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x")
"""The points of series, in order; the names are Plotly's."""


@dataclass(frozen=True)
class Palette:
    """Colours on one background, as "#rrggbb".

    Attributes:
        background, text, muted, grid: the page, its words, words that matter less, and thin lines.
        kept, pruned: weights that stay, and those that go.
        floor: a minimum that decides how many weights a block keeps, and the weights that it keeps.
        threshold: the magnitude from which on weights stay.
        dense: a network that is not pruned.
        dead: a block, filter or channel that keeps no weight.
        event: a moment of training at which weights are pruned.
        series: lines of one picture, in order.
    """

    background: str
    text: str
    muted: str
    grid: str
    kept: str
    pruned: str
    floor: str
    threshold: str
    dense: str
    dead: str
    event: str
    series: tuple[str, ...]


LIGHT = Palette(
    background="#ffffff",
    text="#1b1f24",
    muted="#57606a",
    grid="#d8dee4",
    kept="#0072b2",
    pruned="#c4cad0",
    floor="#e69f00",
    threshold="#d55e00",
    dense="#333333",
    dead="#d55e00",
    event="#cc79a7",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
)
"""The colours of Okabe and Ito (https://jfly.uni-koeln.de/color/), on white."""

DARK = Palette(
    background="#15191e",
    text="#e6e9ec",
    muted="#a4adb6",
    grid="#343b43",
    kept="#4fa8e8",
    pruned="#59626c",
    floor="#f0e442",
    threshold="#f07a2b",
    dense="#e6e9ec",
    dead="#f07a2b",
    event="#dd8fc0",
    series=("#4fa8e8", "#f07a2b", "#1fbf92", "#dd8fc0", "#f0e442", "#b4c7ff"),
)
"""The same hues, lighter, on nearly black."""


@dataclass(frozen=True)
class Style:
    """How one series is drawn: its colour, and the dash and the marker that tell it apart without colour."""

    colour: str
    dash: Dash
    marker: Marker


def style(index: int, palette: Palette = LIGHT) -> Style:
    """Return how series `index` is drawn: colours repeat after six; no two of the first 36 look the same.

    >>> style(0)
    Style(colour='#0072b2', dash='solid', marker='circle')
    >>> style(6)
    Style(colour='#0072b2', dash='dash', marker='square')
    """
    turn, place = divmod(index, len(palette.series))
    shift = (place + turn) % len(DASHES)
    return Style(palette.series[place], DASHES[shift], MARKERS[shift])
