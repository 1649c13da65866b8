"""All that one report tells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from gpmt.report.content.grid import Grid
from gpmt.report.content.subject import Subject


@dataclass(frozen=True)
class Report:
    """What was given, in order.

    Attributes:
        title: of the page.
        subjects: pruned networks: runs, plans and files.
        grids: sweeps and comparisons.
        problems: what could not be read and why, a sentence each; the rest is shown.
        made: when, as ISO 8601 in seconds with the offset.
    """

    title: str
    subjects: Sequence[Subject] = ()
    grids: Sequence[Grid] = ()
    problems: Sequence[str] = ()
    made: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as values that JSON has; numbers that are not finite become None."""
        document: dict[str, Any] = _plain(self)
        return document


def _plain(value: Any) -> Any:
    """Return values as JSON has them: classes and mappings as objects, sequences as lists."""
    match value:
        case str() | bool() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return str(value)
