"""The results of a comparison as a table: a row for each method, a cell for each sparsity."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from gpmt.html_tables import html_table
from gpmt.runs.log import NOT_FINITE
from gpmt.terminal.comparison import (
    cell_text,
    epochs_line,
    epochs_text,
    floor_text,
    legend,
    marks,
    percent,
    time_text,
    troubles,
)
from gpmt.training.compare.comparison import DENSE, Comparison
from gpmt.training.sweep.grid import Point
from gpmt.training.sweep.results import summarise

_BEFORE = ("pruned_top1", "recalibrated_top1")
_AVERAGED = ("finetuned_top1", "finetuned_top5", *_BEFORE, "sparsity_reached", "kept")


class Outcome(dict[str, Any]):
    """The table of a comparison, ready for JSON; a notebook shows it as a table."""

    def _repr_html_(self) -> str:
        rows = [
            [
                line["method"],
                floor_text(line),
                *_accuracies(line, self["sparsities"]),
                epochs_text(line),
                time_text(line),
            ]
            for line in (self["dense"], *self["rows"])
        ]
        return html_table(
            ["method", "floor", *map(percent, self["sparsities"]), "epochs", "time"],
            rows,
            title=f"{self['title']}: top-1 % on the test data after the last epoch",
            notes=[epochs_line(self), *legend(self), *troubles(self)],
        )


def _accuracies(line: Mapping[str, Any], sparsities: Sequence[str]) -> list[str]:
    """Return the cells of a row; the only one of the dense row is in all columns."""
    cells = line["cells"] * (len(sparsities) if len(line["cells"]) == 1 else 1)
    return [cell_text(cell) + marks(cell) for cell in cells]


def outcome(comparison: Comparison, results: Mapping[str, Any]) -> Outcome:
    """Return the table of a comparison, ready for JSON, from the results of the sweep that carried it out.

    Returns:
        ``rows``, the methods in order, each with ``method``, ``floor`` (None without), the ``epochs`` of its phases,
        the mean ``seconds`` of a run, and ``cells``, one for each of ``sparsities``; ``dense``, the row of the
        networks that are never pruned, with one cell. A cell has mean and deviation of the measures over its
        ``seeds`` (those finished), the fewest weights in a tensor and the most tensors without any over these seeds,
        the seeds whose loss ``diverged``, that ``failed`` otherwise or are still ``to_do``, the sentence that says
        why it is ``infeasible`` or None, and whether its top-1 is the ``best`` of its sparsity.
    """
    reader = _Reader(comparison, results)
    rows = [
        {
            "method": row.method.name,
            "floor": row.floor,
            **reader.line(row.name, comparison.sparsities, prunes_trained=row.method.starts_dense),
        }
        for row in comparison.rows
    ]
    for column in zip(*(row["cells"] for row in rows), strict=True):
        _mark_best(column)
    return Outcome(
        {
            "title": results["title"],
            "model": comparison.base.model,
            "data": comparison.base.data.name,
            "epochs": comparison.budget.total,
            "dense_epochs": comparison.budget.dense,
            "sparsities": list(comparison.sparsities),
            "seeds": list(comparison.seeds),
            "dense": {"method": DENSE, "floor": None, **reader.line(DENSE, ("0",))},
            "rows": rows,
            "weights": next((row["weights"] for row in results["runs"]), None),
            "total": results["total"],
            "finished": len(results["runs"]),
            "failed": results["failed"],
            "infeasible": [
                {"variant": point.variant, **point.values, "infeasible": reader.infeasible[point.title]}
                for point in comparison.grid.points
                if point.title in reader.infeasible
            ],
            "runs": results["runs"],
        }
    )


class _Reader:
    """The results of a sweep, by row and sparsity."""

    def __init__(self, comparison: Comparison, results: Mapping[str, Any]) -> None:
        self.points: dict[tuple[str, str], list[Point]] = {}
        for point in comparison.grid.points:
            self.points.setdefault((point.variant, point.values["sparsity"]), []).append(point)
        self.runs = {(row["variant"], row["sparsity"], row["seed"]): row for row in results["runs"]}
        self.failed = {entry["run"]: entry["error"] for entry in results["failed"]}
        self.infeasible = {entry["run"]: entry["error"] for entry in results["infeasible"]}

    def line(self, name: str, sparsities: Sequence[str], *, prunes_trained: bool = False) -> dict[str, Any]:
        """Return epochs, time and cells of a row; the score right after pruning if what is pruned is trained."""
        recipe = self.points[name, sparsities[0]][0].recipe
        seconds = [row["seconds"] for (variant, *_), row in self.runs.items() if variant == name]
        return {
            "epochs": {"dense": recipe.dense.epochs, "finetune": recipe.finetune.epochs},
            "seconds": fmean(seconds) if seconds else None,
            "cells": [
                self._cell(name, sparsity) | ({} if prunes_trained else dict.fromkeys(_BEFORE))
                for sparsity in sparsities
            ],
        }

    def _cell(self, name: str, sparsity: str) -> dict[str, Any]:
        points = self.points[name, sparsity]
        runs = [row for p in points if (row := self.runs.get((name, sparsity, p.recipe.seed))) is not None]
        [summary] = summarise(runs, ["sparsity", "seed"]) or [{}]
        counted = runs and all(row["macs_dense"] for row in runs)
        left = {p.recipe.seed: p.title for p in points if p.recipe.seed not in {r["seed"] for r in runs}}
        diverged = [seed for seed, run in left.items() if self.failed.get(run, "").startswith(NOT_FINITE)]
        return {
            "sparsity": sparsity,
            "seeds": [row["seed"] for row in runs],
            **{measure: summary.get(measure) for measure in _AVERAGED},
            "fewest_kept": min((row["fewest_kept"] for row in runs), default=None),
            "dead": max((row["dead"] for row in runs), default=0),
            "macs": fmean(row["macs_sparse"] / row["macs_dense"] for row in runs) if counted else None,
            "verified": all(row["verified"] for row in runs),
            "diverged": diverged,
            "failed": [s for s, run in left.items() if run in self.failed and s not in diverged],
            "to_do": [s for s, run in left.items() if run not in self.failed and run not in self.infeasible],
            "infeasible": next(
                (self.infeasible[run] for run in left.values() if run in self.infeasible), None
            ),
            "best": False,
        }


def _mark_best(column: Sequence[dict[str, Any]]) -> None:
    """Mark the cells with the highest mean of a sparsity."""
    means = [cell["finetuned_top1"]["mean"] for cell in column if cell["finetuned_top1"]]
    for cell in column:
        cell["best"] = bool(cell["finetuned_top1"]) and cell["finetuned_top1"]["mean"] == max(means)
