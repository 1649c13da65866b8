"""The granularities by name, known before PyTorch is imported."""

from __future__ import annotations

from typing import Literal, get_args

from gpmt.errors import BudgetError

Granularity = Literal["weight", "row", "column", "channel", "1x4"]

PLURALS: dict[str, str] = {
    "weight": "weights",
    "row": "rows",
    "column": "columns",
    "channel": "channels",
    "1x4": "vectors",
}
"""What sparsities, minimums and totals count."""


def check_granularity(name: str) -> str:
    """Return `name`; raise `BudgetError` for an unknown granularity.

    >>> check_granularity("1x4")
    '1x4'
    """
    if name not in PLURALS:
        raise BudgetError(f"granularity is {name!r}, but must be one of {', '.join(get_args(Granularity))}")
    return name
