"""A table that can be written in several forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table of texts, and the numbers behind it.

    Attributes:
        title: what it shows.
        heads: one for each column; the first column is aligned to the left, the others to the right.
        rows: as many texts in each.
        bold: the (row, column) of texts that are the best of their column.
        totals: whether the last row is the sum of the others.
        notes: sentences below it.
        records: the same with all digits, a mapping for each line of a CSV file; all have the same keys.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] = frozenset()
    totals: bool = False
    notes: Sequence[str] = ()
    records: Sequence[Mapping[str, Any]] = ()
