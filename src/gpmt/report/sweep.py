"""The table of a sweep: accuracies as mean ± standard deviation over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

_PHASES = {
    "dense_top1": "dense",
    "pruned_top1": "pruned",
    "recalibrated_top1": "recalibrated",
    "finetuned_top1": "fine-tuned",
}


def sweep_table(summary: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> Table:
    """Draw a sweep's summary: a line for each variant and values of the axes, top-1 accuracies in percent.

    Columns that no line has anything for are left out.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    labels = [label for label in ("variant", *axes) if label != "seed" and any(row[label] for row in summary)]
    phases = {key: title for key, title in _PHASES.items() if any(row[key] for row in summary)}
    for label in labels:
        table.add_column(label, justify="left" if label == "variant" else "right")
    for title in ("kept", *(f"{title} top-1 %" for title in phases.values()), "seeds"):
        table.add_column(title, justify="right")
    for row in summary:
        table.add_row(
            *(row[label] for label in labels),
            f"{row['kept']['mean']:,.0f}",
            *(_percent(row[key]) for key in phases),
            str(len(row["seeds"])),
        )
    return table


def _percent(spread: Mapping[str, float | None] | None) -> str:
    if spread is None or spread["mean"] is None:
        return "–"
    deviation = "–" if spread["std"] is None else f"{100 * spread['std']:.2f}"
    return f"{100 * spread['mean']:.2f} ± {deviation}"
