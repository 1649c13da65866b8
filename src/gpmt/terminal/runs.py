"""The table of runs: a line for each, or for each sweep and comparison."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table

from gpmt.runs.found import Found, GridSummary
from gpmt.runs.run_summary import RunSummary
from gpmt.terminal.durations import duration
from gpmt.terminal.fitting import Column, draw_table, fits
from gpmt.terminal.tables import UNBOUNDED

_NONE = "–"


def runs_table(
    runs: Sequence[Found], names: Sequence[str], *, width: int = UNBOUNDED
) -> tuple[Table, list[str]]:
    """Draw runs under their names, accuracies and sparsities in percent.

    Returns:
        The table, and the lines to print below it: what is wrong, where the table has no room for it.
    """
    members = [run.runs if isinstance(run, GridSummary) else (run,) for run in runs]
    first = Column("run", names, justify="left")
    columns = [
        Column("state", [run.state for run in runs], justify="left"),
        Column("what", [_what(run) for run in runs], justify="left", spare=1),
        Column("method", [_methods(group) for group in members], justify="left", spare=4),
        Column("asked", [_span_text([run.asked for run in group]) for group in members], spare=5),
        Column("sparsity\n%", [_span([run.sparsity for run in group]) for group in members], spare=11),
        Column("dense\ntop-1 %", [_span([run.dense_top1 for run in group]) for group in members], spare=3),
        Column("top-1\n%", [_span([run.top1 for run in group]) for group in members]),
        Column("epochs", [_done(run) for run in runs], spare=6),
        Column("time", [_NONE if run.seconds is None else duration(run.seconds) for run in runs], spare=7),
        Column("when", [_moment(run.when) for run in runs], spare=2),
    ]
    notes = [run.note for run in runs]
    if not any(notes):
        return draw_table(first, columns, width), []
    wide = [*columns, Column("note", notes, justify="left")]
    if fits(first, wide, width):
        return draw_table(first, wide, width), []
    lines = [f"{name}: {note}" for name, note in zip(names, notes, strict=True) if note]
    return draw_table(first, columns, width), lines


def _what(run: Found) -> str:
    return f"{run.kind} of {run.title}" if isinstance(run, GridSummary) else run.title


def _methods(runs: Sequence[RunSummary]) -> str:
    different = dict.fromkeys(run.described for run in runs if run.described)
    return f"{len(different)} methods" if len(different) > 1 else "".join(different)


def _done(run: Found) -> str:
    if isinstance(run, GridSummary):
        return f"{run.finished} of {run.total} runs"
    return _NONE if run.epochs is None else f"{run.epochs} of {run.total_epochs}"


def _span(shares: Sequence[float | None]) -> str:
    return _span_text([f"{100 * share:.2f}" for share in sorted(s for s in shares if s is not None)])


def _span_text(values: Sequence[str]) -> str:
    """Return the only value there is, or the first and the last."""
    different = sorted(
        {value for value in values if value}, key=lambda value: (len(value.split(".")[0]), value)
    )
    if not different:
        return _NONE
    return different[0] if len(different) == 1 else f"{different[0]}–{different[-1]}"


def _moment(when: str) -> str:
    """Return an ISO 8601 time to the minute, in the time zone of this machine."""
    try:
        return f"{datetime.fromisoformat(when).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return when or _NONE
