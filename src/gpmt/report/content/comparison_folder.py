"""A comparison as a grid: its methods with and without floors at each sparsity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpmt.errors import GpmtError, ReportError
from gpmt.report.content.documents import Document, read_document
from gpmt.report.content.grid import Cell, Grid, Spread
from gpmt.report.content.grid_folder import latency_of, lost_warnings, read_grid, read_sweep
from gpmt.report.content.wording import as_fraction

COMPARISON = "comparison.json"
_FLOORS = "+MT"


def read_comparison(path: Path, problems: list[str]) -> Grid:
    """Read the folder of a comparison: its table in comparison.json, and what its runs have noted.

    Where comparison.json cannot be read, the runs are told as those of a sweep. Raises as `read_sweep` does.
    """
    try:
        document = read_document(
            path / COMPARISON, "the next run of the comparison writes it anew, with --resume"
        )
    except GpmtError as error:
        problems.append(str(error))
        return read_sweep(path, problems)
    folder = read_grid(path, problems)
    table = comparison_grid(document.values, folder.about.values, path)
    cells = []
    for cell in table.cells:
        variant = f"{cell.method}{_FLOORS}" if cell.floor else cell.method
        members = [run for run in folder.finished if (run.variant, run.asked) == (variant, cell.asked)]
        cells.append(replace(cell, latency_ms=latency_of(members)))
    grid = folder.grid("comparison", cells)
    return replace(
        table, cells=cells, runs=grid.runs, machine=grid.machine, missing=grid.missing, warnings=grid.warnings
    )


def is_comparison(document: Document) -> bool:
    """Whether a document is the table of a comparison."""
    return all(key in document for key in ("sparsities", "dense", "rows"))


def read_table(path: Path, document: Document) -> Grid:
    """Return the table of a comparison as a grid, without its folder.

    Args:
        path: the file.
        document: what it holds.

    Raises `ReportError` for a table without results.
    """
    grid = comparison_grid(document.values, {}, path)
    if not grid.cells:
        raise ReportError(
            f"{path} is the table of a comparison without results; give the comparison's folder"
        )
    rest = f"latencies, commands, versions and machine: {path} is the table alone; give the folder of the comparison"
    return replace(grid, missing=[rest])


def comparison_grid(document: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> Grid:
    """Return a comparison as a grid, without what its runs alone have noted.

    Args:
        document: the table, as comparison.json has it.
        about: what sweep.json holds: commands and versions.
        path: the folder, or the file of the table.
    """
    table, sweep = Document(document), Document(about)
    dense: dict[tuple[str, str], list[float | None]] = {}
    for row in table.rows("runs"):
        dense.setdefault((row.text("variant"), row.text("sparsity")), []).append(row.number("dense_top1"))
    cells = [_cell(line, cell, dense) for line in table.rows("rows") for cell in line.rows("cells")]
    unpruned = [_spread(cell, "finetuned_top1") for cell in table.object("dense").rows("cells")]
    return Grid(
        kind="comparison",
        title=table.text("title") or path.name,
        path=str(path),
        cells=cells,
        dense=unpruned[0] if unpruned else None,
        epochs=table.count("epochs"),
        total=table.count("total") or 0,
        finished=table.count("finished") or 0,
        versions={key: str(value) for key, value in sweep.object("versions").values.items()},
        commands=sweep.texts("commands"),
        warnings=lost_warnings(cells),
    )


def _cell(line: Document, cell: Document, dense: Mapping[tuple[str, str], list[float | None]]) -> Cell:
    method, floor = line.text("method"), line.values.get("floor")
    variant = method if floor is None else f"{method}{_FLOORS}"
    asked = as_fraction(cell.text("sparsity"))
    # Only what begins with a trained network has a dense accuracy.
    starts_dense = bool(line.object("epochs").count("dense"))
    return Cell(
        method=method,
        floor="" if floor is None else str(floor),
        setting="",
        asked=0.0 if asked is None else float(asked),
        seeds=cell.counts("seeds"),
        sparsity=_spread(cell, "sparsity_reached"),
        dense=Spread.of(dense.get((variant, cell.text("sparsity")), [])) if starts_dense else None,
        pruned=_spread(cell, "pruned_top1"),
        recalibrated=_spread(cell, "recalibrated_top1"),
        finetuned=_spread(cell, "finetuned_top1"),
        finetuned_top5=_spread(cell, "finetuned_top5"),
        macs=cell.number("macs"),
        fewest=cell.count("fewest_kept"),
        dead=cell.count("dead") or 0,
        lost=_lost(cell),
    )


def _lost(cell: Document) -> tuple[str, ...]:
    if reason := cell.text("infeasible"):
        return (f"all seeds are infeasible: {reason}",)
    words = {"diverged": "diverged", "failed": "failed", "to_do": "is to do"}
    return tuple(f"seed {seed} {word}" for key, word in words.items() for seed in cell.counts(key))


def _spread(cell: Document, key: str) -> Spread | None:
    mean = cell.object(key).number("mean")
    return None if mean is None else Spread(mean, cell.object(key).number("std"))
