"""A comparison from start to end, and what it would do."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpmt.atomic import atomic_path
from gpmt.errors import BudgetError, MethodError, RecipeError
from gpmt.terminal.comparison import infeasible_lines
from gpmt.training.compare.comparison import DENSE, Comparison
from gpmt.training.compare.outcome import Outcome, outcome
from gpmt.training.compare.page import page
from gpmt.training.run.progress import Reporter
from gpmt.training.sweep.check_runs import check_runs
from gpmt.training.sweep.grid import Grid, Point
from gpmt.training.sweep.runner import sweep
from gpmt.training.sweep.sweep_folder import SweepFolder

KIND = "comparison"
FILES = ("comparison.md", "comparison.csv", "comparison.json")
INFEASIBLE = (BudgetError, MethodError)
"""Errors that make a cell infeasible: a floor, schedule or method that does not fit the sparsity or the budget."""


def compare(
    comparison: Comparison,
    out: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    force: bool = False,
    command: str = "",
    quiet: bool = False,
) -> Outcome:
    """Carry out a comparison as a sweep in the folder `out`, and return its table as `outcome` makes it.

    The table is written after every run: comparison.md (the page), comparison.csv (one line per cell) and
    comparison.json, beside the files of the sweep. The arguments and errors are those of `sweep`; cells that cannot
    be are marked and the others go on, unless that is so for all. With `resume` the comparison may have fewer rows,
    sparsities and seeds than before: the table is of these, and the other runs are kept.
    """

    def publish(results: Mapping[str, Any]) -> None:
        document = outcome(comparison, results)
        about = json.loads(SweepFolder(out).sweep.read_text(encoding="utf-8"))
        texts = (page(document, about), _csv(document), json.dumps(document, indent=2) + "\n")
        for name, text in zip(FILES, texts, strict=True):
            with atomic_path(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")

    if jobs < 1:
        raise RecipeError(f"jobs is {jobs}, but must be at least 1")
    reporter = Reporter(quiet=quiet)
    grid, infeasible = _check(comparison, out, reporter, resume=resume, force=force)
    for line in infeasible_lines(_described(point, infeasible) for point in grid.points):
        reporter.line(line)
    results = sweep(
        comparison.grid,
        out,
        jobs=jobs,
        resume=resume,
        force=force,
        command=command,
        quiet=quiet,
        kind=KIND,
        infeasible=infeasible,
        publish=publish,
        partial=True,
    )
    return outcome(comparison, results)


def preview(
    comparison: Comparison, out: Path, *, resume: bool = False, force: bool = False
) -> dict[str, Any]:
    """Tell what `compare` would do with these arguments, and raise what it would raise before it starts.

    Returns:
        ``runs``, each with ``run``, ``folder``, ``epochs`` of its phases, ``trains`` (the epochs that it would train
        now, since runs share dense networks) and ``infeasible`` (why, or None); and ``epochs``, those of every run.
    """
    grid, infeasible = _check(comparison, out, Reporter(quiet=True), resume=resume, force=force)
    folder = SweepFolder(out, KIND, partial=True)
    there = [] if force else [p.dense_identity for p in grid.points if folder.has_dense(p)]
    trained = {None, *there}

    def epochs_left(point: Point) -> int:
        """Return how many epochs a run would train now; those of a run that was stopped count in full."""
        finished = not force and folder.run(point).metrics.exists()
        if finished or point.folder in infeasible:
            return 0
        dense = 0 if point.dense_identity in trained else point.recipe.dense.epochs
        trained.add(point.dense_identity)
        return dense + point.recipe.finetune.epochs

    return {
        "title": comparison.base.title,
        "epochs": comparison.budget.total,
        "dense_epochs": comparison.budget.dense,
        "runs": [
            {
                **_described(point, infeasible),
                "folder": str(out / point.folder),
                "epochs": {"dense": point.recipe.dense.epochs, "finetune": point.recipe.finetune.epochs},
                "trains": epochs_left(point),
            }
            for point in grid.points
        ],
    }


def _check(
    comparison: Comparison, out: Path, reporter: Reporter, *, resume: bool, force: bool
) -> tuple[Grid, dict[str, str]]:
    """Return the grid with its folders, and why runs are infeasible, by folder; raise where no method is feasible."""
    folder = SweepFolder(out, KIND, partial=True)
    grid = folder.check(comparison.grid, resume=resume, force=force)
    reporter.line(f"{grid.base.title}: checking {len(grid.points)} runs")
    unfinished = [point for point in grid.points if force or not folder.run(point).metrics.exists()]
    infeasible = check_runs(unfinished, reporter, tolerate=INFEASIBLE)
    pruned = [point for point in grid.points if point.variant != DENSE]
    if all(point.folder in infeasible for point in pruned):
        check_runs(pruned, reporter)
    return grid, infeasible


def _described(point: Point, infeasible: Mapping[str, str]) -> dict[str, Any]:
    return {
        "run": point.title,
        "variant": point.variant,
        **point.values,
        "infeasible": infeasible.get(point.folder),
    }


def _csv(document: Mapping[str, Any]) -> str:
    """Return a line for each cell."""
    text = io.StringIO()
    lines = [
        {
            "method": line["method"],
            "floor": line["floor"],
            "sparsity": cell["sparsity"],
            "runs": len(cell["seeds"]),
            **{
                f"{measure}_{what}": (cell[measure] or {}).get(what)
                for measure in ("finetuned_top1", "finetuned_top5", "pruned_top1")
                for what in ("mean", "std")
            },
            "best": cell["best"],
            "sparsity_reached": (cell["sparsity_reached"] or {}).get("mean"),
            "kept": (cell["kept"] or {}).get("mean"),
            "fewest_kept": cell["fewest_kept"],
            "dead": cell["dead"] if cell["seeds"] else None,
            "macs": cell["macs"],
            "diverged": len(cell["diverged"]),
            "failed": len(cell["failed"]),
            "to_do": len(cell["to_do"]),
            "infeasible": cell["infeasible"],
            "dense_epochs": line["epochs"]["dense"],
            "finetune_epochs": line["epochs"]["finetune"],
            "seconds": line["seconds"],
        }
        for line in (document["dense"], *document["rows"])
        for cell in line["cells"]
    ]
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
