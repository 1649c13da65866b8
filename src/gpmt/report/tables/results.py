"""The results of sweeps, comparisons and runs as tables: a line for each method, a column for each sparsity."""

from __future__ import annotations

from collections.abc import Sequence

from gpmt.errors import FigureError
from gpmt.report.content.grid import Cell, Grid, Spread
from gpmt.report.content.report import Report
from gpmt.report.figures.series import cells_of_runs, labels
from gpmt.report.figures.sizes import percent
from gpmt.report.tables.table import Table


def results_tables(report: Report) -> list[Table]:
    """Return a table for each sweep and comparison, and one for all runs together.

    Cells have the top-1 accuracy in percent after fine-tuning, or after pruning where nothing was trained: mean ±
    sample standard deviation over seeds, the best of each column in bold.

    Raises `FigureError` where no accuracy is known.
    """
    grids = [grid for grid in report.grids if any(_top1(cell) for cell in grid.cells)]
    runs = [subject for subject in report.subjects if subject.kind == "run"]
    cells = [cell for cell in cells_of_runs(runs) if _top1(cell)]
    if cells:
        grids.append(Grid("sweep", "runs", "", cells))
    if not grids:
        paths = [grid.path for grid in report.grids] + [subject.path for subject in report.subjects]
        raise FigureError(
            f"no accuracy is known of {', '.join(paths) or 'nothing'}; give runs, sweeps or comparisons that have "
            "finished runs, or --layers for the blocks"
        )
    return [results_table(grid) for grid in grids]


def results_table(grid: Grid) -> Table:
    """Return the table of one sweep or comparison."""
    sparsities = sorted({cell.asked for cell in grid.cells})
    names = labels(grid.cells)
    places = {name: row for row, name in enumerate(dict.fromkeys(names), 1)}
    columns = {sparsity: column for column, sparsity in enumerate(sparsities, 1)}
    dense = _text(grid.dense) if grid.dense else "–"
    rows = [["dense", *[dense] * len(sparsities)]]
    rows += [[name, *["–"] * len(sparsities)] for name in places]
    found: dict[tuple[int, int], float] = {}
    for name, cell in zip(names, grid.cells, strict=True):
        place = places[name], columns[cell.asked]
        top1 = _top1(cell)
        rows[place[0]][place[1]] = _text(top1) + "†" * bool(top1 and cell.dead)
        if top1 is not None:
            found[place] = top1.mean
    if grid.dense is None:
        rows, found = rows[1:], {(row - 1, column): mean for (row, column), mean in found.items()}
    best = {column: max(mean for (_, other), mean in found.items() if other == column) for _, column in found}
    several = any(cell.finetuned and cell.finetuned.std is not None for cell in grid.cells)
    notes = [
        "top-1 % on the test data" + ("; mean ± sample standard deviation over the seeds" if several else "")
    ]
    if any(cell.dead and _top1(cell) for cell in grid.cells):
        notes.append("† a layer has no weight left, in at least one seed")
    return Table(
        title=grid.title,
        heads=["method", *(percent(sparsity) for sparsity in sparsities)],
        rows=rows,
        bold=frozenset(place for place, mean in found.items() if mean == best[place[1]]),
        notes=notes,
        records=_records(grid, names),
    )


def _records(grid: Grid, names: Sequence[str]) -> list[dict[str, object]]:
    scores = ("dense", "pruned", "finetuned", "finetuned_top5")
    records = []
    for name, cell in zip(names, grid.cells, strict=True):
        record: dict[str, object] = {
            "method": name,
            "floor": cell.floor,
            "sparsity_asked": cell.asked,
            "seeds": " ".join(map(str, cell.seeds)),
            "sparsity": cell.sparsity.mean if cell.sparsity else None,
        }
        for score in scores:
            spread: Spread | None = getattr(cell, score)
            record[f"{score}_mean"] = spread.mean if spread else None
            record[f"{score}_std"] = spread.std if spread else None
        record |= {"macs": cell.macs, "latency_ms": cell.latency_ms, "fewest": cell.fewest, "dead": cell.dead}
        records.append(record | {"lost": "; ".join(cell.lost)})
    return records


def _top1(cell: Cell) -> Spread | None:
    return cell.finetuned or cell.pruned


def _text(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    deviation = "" if spread.std is None else f" ± {100 * spread.std:.2f}"
    return f"{100 * spread.mean:.2f}{deviation}"
