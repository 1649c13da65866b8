"""Tables that fit a terminal: the least important columns go first, and names are folded, never cut."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.table import Table

_NARROWEST = 20
"""Names are folded to this width before a column is left out that names are folded for."""


@dataclass(frozen=True)
class Column:
    """One column of text; a line break in a cell or title is one in the table.

    Attributes:
        spare: 0 for a column that is always shown; the others are left out in this order where room is lacking, those
            below 10 so that names need not be folded, those from 10 on only where folding is not enough.
    """

    title: str
    cells: Sequence[str]
    footer: str = ""
    justify: Literal["left", "right"] = "right"
    spare: int = 0

    @property
    def width(self) -> int:
        """Terminal cells that the widest line takes."""
        return max(
            cell_len(line) for text in (self.title, *self.cells, self.footer) for line in text.split("\n")
        )


def draw_table(
    names: Column,
    columns: Sequence[Column],
    width: int,
    *,
    box: Box | None = SIMPLE_HEAD,
    padding: int = 1,
    sections: Collection[int] = (),
) -> Table:
    """Draw columns beside one of names so that they take at most `width` cells.

    Args:
        names: what the lines are about; it comes first, and is shown whole.
        columns: the others, in order.
        width: terminal cells there are.
        box: lines around and between the cells; None for none.
        padding: spaces after a column.
        sections: numbers of the rows under which there is a line.
    """
    # A box takes a cell at each edge and between columns.
    names, columns = fit(names, columns, width - 2 if box else width, padding + 1 if box else padding)
    footer = any(column.footer for column in (names, *columns))
    table = Table(box=box, show_footer=footer, pad_edge=False, padding=(0, padding, 0, 0))
    for column in (names, *columns):
        table.add_column(column.title, column.footer, justify=column.justify, no_wrap=True, vertical="bottom")
    for number, cells in enumerate(zip(*(column.cells for column in (names, *columns)), strict=True)):
        table.add_row(*cells, end_section=number in sections)
    return table


def fits(names: Column, columns: Sequence[Column], width: int) -> bool:
    """Whether `draw_table` has room for all these columns and whole names, with its usual box."""
    return names.width + sum(2 + column.width for column in columns) <= width - 2


def fit(names: Column, columns: Sequence[Column], width: int, gap: int) -> tuple[Column, list[Column]]:
    """Return the names, folded where they have to be, and the columns that there is room for, `gap` cells apart."""
    kept = list(columns)

    def room() -> int:
        return width - sum(gap + column.width for column in kept)

    for column in sorted((column for column in columns if column.spare), key=lambda column: column.spare):
        if room() < (names.width if column.spare < 10 else min(names.width, _NARROWEST)):
            kept.remove(column)
    space = max(room(), 1)
    if names.width <= space:
        return names, kept
    return replace(
        names,
        title=fold(names.title, space),
        cells=[fold(name, space) for name in names.cells],
        footer=fold(names.footer, space),
    ), kept


def fold(name: str, width: int) -> str:
    """Break a name into lines of at most `width` cells, after dots where it has some; nothing of it is left out.

    >>> print(fold("encoder.layer.11.attention.query", 16))
    encoder.layer.
    11.attention.
    query
    """
    lines, line = [], ""
    for part in name.replace(".", ".\0").split("\0"):
        if line and cell_len(line + part) > width:
            lines.append(line)
            line = ""
        for character in part:
            if line and cell_len(line + character) > width:
                lines.append(line)
                line = ""
            line += character
    return "\n".join([*lines, line])
