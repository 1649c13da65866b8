"""The table of a sweep: accuracies as mean ± standard deviation over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gpmt.terminal.fitting import Column, draw_table
from gpmt.terminal.tables import UNBOUNDED

_PHASES = {
    "dense_top1": "dense",
    "pruned_top1": "pruned",
    "recalibrated_top1": "recalibrated",
    "finetuned_top1": "fine-tuned",
}
_SPARE = {"recalibrated_top1": 3, "dense_top1": 4, "pruned_top1": 10}
"""Which accuracies are left out first where they do not fit."""


def sweep_table(
    summary: Sequence[Mapping[str, Any]], axes: Sequence[str], *, width: int = UNBOUNDED
) -> Table:
    """Draw a sweep's summary: a line for each variant and values of the axes, top-1 accuracies in percent.

    Columns that no line has anything for are left out, and others where they do not fit in `width`.
    """
    labels = [label for label in ("variant", *axes) if label != "seed" and any(row[label] for row in summary)]
    phases = {key: title for key, title in _PHASES.items() if any(row[key] for row in summary)}
    first, *further = [
        Column(label, [row[label] for row in summary], justify="left" if label == "variant" else "right")
        for label in labels
    ] or [Column("", [""] * len(summary))]
    columns = [
        *further,
        Column("kept", [f"{row['kept']['mean']:,.0f}" for row in summary], spare=2),
        *(
            Column(
                f"{title}\ntop-1 %",
                [_percent(row[key]) for row in summary],
                spare=_SPARE.get(key, 0),
            )
            for key, title in phases.items()
        ),
        Column("seeds", [str(len(row["seeds"])) for row in summary], spare=1),
    ]
    return draw_table(first, columns, width)


def _percent(spread: Mapping[str, float | None] | None) -> str:
    if spread is None or spread["mean"] is None:
        return "–"
    deviation = "–" if spread["std"] is None else f"{100 * spread['std']:.2f}"
    return f"{100 * spread['mean']:.2f} ± {deviation}"
