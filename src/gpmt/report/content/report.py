"""All that one report tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
