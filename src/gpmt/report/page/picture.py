"""What a page shows: figures for Plotly and tables, as plain values; colours are names of the palette."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from gpmt.report.palette import LIGHT, Palette

COLOURS = Palette(
    **{entry.name: f"@{entry.name}" for entry in fields(Palette) if entry.name != "series"},
    series=tuple(f"@series{index}" for index in range(len(LIGHT.series))),
)
"""The colours that figures name; the page's script puts in those of its theme."""


def faint(colour: str, share: float) -> str:
    """Return a colour of `COLOURS` that lets what is behind it through.

    >>> faint(COLOURS.kept, 0.25)
    '@kept/0.25'
    """
    return f"{colour}/{share:g}"


def colours(palette: Palette) -> dict[str, str]:
    """Return the colours of a palette by the names that figures have for them."""
    named = {f"@{name}": value for name, value in asdict(palette).items() if isinstance(value, str)}
    return named | dict(zip(COLOURS.series, palette.series, strict=True))


def text(value: str) -> str:
    """Return text as Plotly's labels show it, which read some tags.

    >>> text("<b>&")
    '&lt;b&gt;&amp;'
    """
    return html.escape(value, quote=False)


def shortened(name: str, length: int = 28) -> str:
    """Return the end of a long name, as text for a label: tensors of one part of a network begin alike.

    >>> shortened("layer1.0.conv1.weight", 14)
    '….conv1.weight'
    """
    return text(name if len(name) <= length else "…" + name[1 - length :])


@dataclass(frozen=True)
class Table:
    """Rows of text under heads; the columns in `words` are words, to the left, and the others numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)

    def to_dict(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {"heads": self.heads, "rows": self.rows, "words": self.words}


@dataclass(frozen=True)
class View:
    """One state of a figure.

    Attributes:
        label: what it is chosen by where a figure has several.
        finding: what it shows, in words; it stands below the figure and is read aloud in its place.
        traces, layout: of Plotly; labels have gone through `text`.
        table: the same numbers.
    """

    label: str
    finding: str
    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    table: Table

    def to_dict(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {
            "finding": self.finding,
            "traces": self.traces,
            "layout": self.layout,
            "table": self.table.to_dict(),
        }


@dataclass(frozen=True)
class Picture:
    """A figure of the page, with one view or several to choose from; `height` is in pixels."""

    title: str
    views: Sequence[View]
    height: int = 360
    choose: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what the page's script reads."""
        return {"views": [view.to_dict() for view in self.views], "height": self.height}


@dataclass(frozen=True)
class Block:
    """Pictures and tables of one subject in a section; folded tables open on a click."""

    heading: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[tuple[str, Table]] = ()
    commands: Sequence[str] = ()
    folded: bool = False

    @property
    def empty(self) -> bool:
        """Whether it has nothing to show."""
        return not (self.pictures or self.tables or self.commands)


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    id: str
    title: str
    about: str
    blocks: Sequence[Block]
