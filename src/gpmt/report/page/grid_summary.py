"""The summary of a sweep or comparison: which method collapses where, and what a floor changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.report.content.grid import Cell, Grid
from gpmt.report.page.summary import COLLAPSED, Fact, Verdict
from gpmt.report.page.wording import count, listed, percent, spread


@dataclass(frozen=True)
class Entry:
    """A cell as the summary's table shows it; `share` is the length of its bar."""

    words: str
    share: float | None = None
    collapsed: bool = False
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """Methods by sparsities."""

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Entry]]]
    dense: str = ""


def reference(grid: Grid) -> float:
    """Return the accuracy that cells are measured by: the dense network's, or the best that is known."""
    if grid.dense is not None:
        return grid.dense.mean
    known = [score.mean for cell in grid.cells for score in (cell.dense, cell.finetuned) if score is not None]
    return max(known, default=0.0)


def collapsed(grid: Grid, cell: Cell) -> bool:
    """Whether the networks of a cell collapsed, on average."""
    return cell.finetuned is not None and cell.finetuned.mean < COLLAPSED * reference(grid)


def rescues(grid: Grid) -> list[tuple[Cell, Cell]]:
    """Return cells that collapsed without a floor, each with the best of the same method that has one and did not."""
    found = []
    for cell in grid.cells:
        if cell.floor or not collapsed(grid, cell):
            continue
        same = [
            other
            for other in grid.cells
            if other.floor and other.finetuned and not collapsed(grid, other)
            if (other.method, other.setting, other.asked) == (cell.method, cell.setting, cell.asked)
        ]
        if same:
            found.append((cell, max(same, key=lambda other: other.finetuned.mean if other.finetuned else 0)))
    return found


def verdict(grid: Grid) -> Verdict:
    """Say which methods collapse, and what floors change."""
    measured = [cell for cell in grid.cells if cell.finetuned]
    if not measured:
        return Verdict(
            "open", "Nothing is measured yet", f"{grid.finished} of {count(grid.total, 'run')} finished."
        )
    down = [cell for cell in measured if collapsed(grid, cell)]
    if not down:
        least = min(measured, key=lambda cell: cell.finetuned.mean if cell.finetuned else 0)
        lowest = f"Of {count(len(measured), 'cell')} the lowest top-1 is {spread(least.finetuned)}"
        return Verdict("good", "No collapse", f"{lowest}: {least.label} at {percent(least.asked)}.")
    said = []
    for label in dict.fromkeys(cell.label for cell in down):
        these = [cell for cell in down if cell.label == label]
        at = listed(
            [f"{percent(cell.asked)} ({percent(cell.finetuned.mean)})" for cell in these if cell.finetuned], 4
        )
        said.append(f"{label} at {at}")
    some = "; ".join(said[:4]) + (f"; and {len(said) - 4} more" if len(said) > 4 else "")
    sentence = f"Collapsed: {some}."
    if saved := rescues(grid):
        gone, kept = max(
            saved,
            key=lambda pair: sum(
                c.finetuned.mean * s for c, s in zip(pair, (-1, 1), strict=True) if c.finetuned
            ),
        )
        sentence += (
            f" A floor rescues {count(len(saved), 'of them', 'of them')}: at {percent(gone.asked)} {kept.label} "
            f"reaches {spread(kept.finetuned)} in place of {spread(gone.finetuned)}."
        )
    headline = "Collapse, and rescue by floors" if saved else "Collapse"
    return Verdict("warning" if saved else "bad", headline, sentence)


def facts(grid: Grid) -> list[Fact]:
    """Return the numbers of a grid as a whole."""
    seeds = sorted({seed for cell in grid.cells for seed in cell.seeds})
    sparsities = sorted({cell.asked for cell in grid.cells})
    labels = dict.fromkeys(cell.label for cell in grid.cells)
    lost = sum(len(cell.lost) for cell in grid.cells)
    found = [
        Fact(
            "Runs",
            f"{grid.finished:,} of {grid.total:,}",
            "finished" + (f"; {lost} without a result" * bool(lost)),
        ),
        Fact("Methods", f"{len(labels):,}", f"at {count(len(sparsities), 'sparsity', 'sparsities')}"),
        Fact("Seeds", f"{len(seeds)}", ", ".join(map(str, seeds)) or "none is finished"),
    ]
    if grid.dense is not None:
        found.append(Fact("Dense", spread(grid.dense), "top-1, never pruned, with as many epochs"))
    if grid.epochs:
        found.append(Fact("Epochs", f"{grid.epochs:,}", "of training in every run"))
    return found


def matrix(grid: Grid) -> Matrix:
    """Return the accuracies after fine-tuning, methods by sparsities."""
    sparsities = sorted({cell.asked for cell in grid.cells})
    best = {
        asked: max(
            (cell.finetuned.mean for cell in grid.cells if cell.asked == asked and cell.finetuned),
            default=None,
        )
        for asked in sparsities
    }
    rows = []
    for label in dict.fromkeys(cell.label for cell in grid.cells):
        cells = {cell.asked: cell for cell in grid.cells if cell.label == label}
        rows.append((label, [_entry(grid, cells.get(asked), best[asked]) for asked in sparsities]))
    return Matrix(
        [percent(asked) for asked in sparsities], rows, "" if grid.dense is None else spread(grid.dense)
    )


def _entry(grid: Grid, cell: Cell | None, best: float | None) -> Entry:
    if cell is None:
        return Entry("")
    note = "; ".join(cell.lost)
    if cell.finetuned is None:
        return Entry("–", note=note)
    dead = f"{cell.dead} dead" if cell.dead else ""
    return Entry(
        spread(cell.finetuned),
        min(max(cell.finetuned.mean, 0), 1),
        collapsed(grid, cell),
        cell.finetuned.mean == best,
        "; ".join(filter(None, (dead, note))),
    )
