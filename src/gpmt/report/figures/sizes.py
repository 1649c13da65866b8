"""How wide a figure is, and an empty one of that size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpmt.errors import FigureError
from gpmt.extras import import_extra

if TYPE_CHECKING:
    from gpmt.report.figures.paper_figure import PaperFigure

WIDTHS = {"column": 8.5, "page": 17.5}
"""Of a column and of a page of a paper, in cm."""
SMALLEST, LARGEST = 4, 60
TALLEST = 24.0
"""No figure is taller than a page, in cm."""


def centimetres(width: str | float) -> float:
    """Return a width in cm.

    Args:
        width: "column" (8.5 cm), "page" (17.5 cm), or a number of cm, such as 12 or "12cm".

    Raises `FigureError` for others.

    >>> centimetres("column"), centimetres("12 cm")
    (8.5, 12.0)
    """
    if isinstance(width, str) and width in WIDTHS:
        return WIDTHS[width]
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(?:cm)?", str(width).strip())
    if found is None or not SMALLEST <= float(found[1]) <= LARGEST:
        raise FigureError(
            f"the width is {str(width)!r}, but must be column, page, or {SMALLEST} to {LARGEST} cm, such as 12"
        )
    return float(found[1])


@contextmanager
def new_figure(width: str | float, height: float) -> Iterator[PaperFigure]:
    """Yield an empty figure, in whose settings the block draws; its height is in cm.

    Raises `FigureError` for a width that is not one, and where Matplotlib is missing.
    """
    size = centimetres(width)
    import_extra("matplotlib", FigureError)
    from gpmt.report.figures.paper_figure import PaperFigure, paper_style

    with paper_style():
        yield PaperFigure(figsize=(size / 2.54, min(height, TALLEST) / 2.54), layout="constrained")


def printable(text: str) -> str:
    """Return a text that every file format can hold: characters without a picture of their own are replaced.

    >>> printable("a\\nb")
    'a\ufffdb'
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def shortened(name: str, length: int) -> str:
    """Return a name of at most so many characters; what is left out in its middle is one "…".

    >>> shortened("layer3.2.conv2.weight", 12)
    'layer3…eight'
    """
    name = printable(name)
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"


def percent(share: float) -> str:
    """Format a share as a tick of an axis.

    >>> percent(0.9), percent(0.99999), percent(0.00001)
    ('90 %', '99.999 %', '0.001 %')
    """
    return f"{float(f'{100 * share:.8g}'):.10g} %"
