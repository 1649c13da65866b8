"""The table of a comparison: a line for each method, a column for each sparsity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from gpmt.core.budget.budget import parse_sparsity
from gpmt.terminal.durations import duration
from gpmt.terminal.fitting import Column, draw_table, fits
from gpmt.terminal.tables import UNBOUNDED

BEST, DEAD, PARTIAL = "*", "†", "‡"
LEGEND = {
    BEST: "best of its sparsity",
    DEAD: "a tensor has no weight left, in at least one seed",
    PARTIAL: "not all seeds: the others diverged, failed or are still to do",
}


def comparison_tables(document: Mapping[str, Any], *, width: int = UNBOUNDED) -> list[Table]:
    """Draw the top-1 accuracies in percent; the sparsities are spread over several tables where one is too wide."""
    lines = [document["dense"], *document["rows"]]
    names = Column("method", [line["method"] for line in lines], justify="left")
    floors = Column("floor", [floor_text(line) for line in lines])
    epochs = Column("epochs", [epochs_text(line) for line in lines], spare=1)
    times = Column("time", [time_text(line) for line in lines], spare=2)
    columns = [
        _column(percent(sparsity), [line["cells"][_place(line, index)] for line in lines])
        for index, sparsity in enumerate(document["sparsities"])
    ]
    count = len(columns)
    while count > 1 and not all(fits(names, [floors, *part], width) for part in _parts(columns, count)):
        count -= 1
    parts = _parts(columns, count)
    return [
        draw_table(
            names,
            [floors, *part, *([epochs, times] if part is parts[-1] else [])],
            width,
            sections={0},
        )
        for part in parts
    ]


def legend(document: Mapping[str, Any]) -> list[str]:
    """Say what the marks mean that the table has."""
    used = "".join(marks(cell) for line in (document["dense"], *document["rows"]) for cell in line["cells"])
    return [f"{mark} {meaning}" for mark, meaning in LEGEND.items() if mark in used]


def epochs_line(document: Mapping[str, Any]) -> str:
    """Say how the budget is spent."""
    total, dense = document["epochs"], document["dense_epochs"]
    every = f"every run has {total} epochs"
    if not dense:
        return f"{every}, from the same weights"
    return f"{every}: {dense} dense + {total - dense} of fine-tuning, or all from an untrained network"


def score_text(spread: Mapping[str, float | None] | None) -> str:
    """Format an accuracy in percent, with its deviation where there are several seeds."""
    if spread is None or spread["mean"] is None:
        return "–"
    deviation = "" if spread["std"] is None else f" ± {100 * spread['std']:.2f}"
    return f"{100 * spread['mean']:.2f}{deviation}"


def cell_text(cell: Mapping[str, Any]) -> str:
    """Format the accuracy of a cell, or say in a word why it has none."""
    if cell["finetuned_top1"] is not None:
        return score_text(cell["finetuned_top1"])
    words = ("infeasible", "diverged", "failed")
    return next((word for word in words if cell[word]), "–")


def marks(cell: Mapping[str, Any]) -> str:
    """Return the marks of a cell; `LEGEND` says what they mean."""
    if cell["finetuned_top1"] is None:
        return ""
    partial = cell["diverged"] or cell["failed"] or cell["to_do"]
    return BEST * bool(cell["best"]) + DEAD * bool(cell["dead"]) + PARTIAL * bool(partial)


def percent(sparsity: str) -> str:
    """Format a sparsity for the head of a column.

    >>> percent("0.995"), percent("0.9")
    ('99.5 %', '90 %')
    """
    return f"{float(100 * parse_sparsity(sparsity)):.6g} %"


def floor_text(line: Mapping[str, Any]) -> str:
    """Format the minimum of a row."""
    return "–" if line["floor"] is None else str(line["floor"])


def epochs_text(line: Mapping[str, Any]) -> str:
    """Format the epochs of a row: dense ones + those of pruning and fine-tuning."""
    return " + ".join(str(count) for count in line["epochs"].values() if count)


def time_text(line: Mapping[str, Any]) -> str:
    """Format the mean time of a row's runs."""
    return "–" if line["seconds"] is None else duration(line["seconds"])


def troubles(document: Mapping[str, Any]) -> list[str]:
    """Say which cells are infeasible and why, and which runs diverged or failed."""
    lines = infeasible_lines(document["infeasible"])
    for row in (document["dense"], *document["rows"]):
        name = row["method"] if row["floor"] is None else f"{row['method']} with floors"
        lines += [
            f"{name} at {percent(cell['sparsity'])}: {word} with seed {', '.join(map(str, cell[word]))}"
            for cell in row["cells"]
            for word in ("diverged", "failed")
            if cell[word]
        ]
    return lines


def infeasible_lines(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say which runs are ``infeasible``, once for each reason."""
    where: dict[str, list[str]] = {}
    for run in runs:
        if reason := run["infeasible"]:
            where.setdefault(reason, []).append(f"{run['variant']} at {percent(run['sparsity'])}")
    return [f"infeasible: {', '.join(dict.fromkeys(names))}: {sentence}" for sentence, names in where.items()]


def _place(line: Mapping[str, Any], index: int) -> int:
    """Return which cell of a row is in a column; the only one of the dense row is in all."""
    return index if len(line["cells"]) > 1 else 0


def _column(title: str, cells: Sequence[Mapping[str, Any]]) -> Column:
    """Return a column whose numbers are aligned, with their marks to the right of them."""
    texts = [cell_text(cell) for cell in cells]
    width = max(map(len, (title, *texts)))
    lines = [text.rjust(width) + marks(cell) for text, cell in zip(texts, cells, strict=True)]
    return Column(title.rjust(width), lines, justify="left")


def _parts(columns: Sequence[Column], count: int) -> list[Sequence[Column]]:
    """Divide the columns into groups of at most `count`, as even as they can be."""
    groups = -(-len(columns) // count)
    size = -(-len(columns) // groups)
    return [columns[start : start + size] for start in range(0, len(columns), size)]


def preview_table(document: Mapping[str, Any], *, width: int = UNBOUNDED) -> Table:
    """Draw the runs that a comparison would have: a line for each, with its epochs and those still to train."""
    runs = document["runs"]
    return draw_table(
        Column("method", [run["variant"] for run in runs], justify="left"),
        [
            Column("sparsity", [percent(run["sparsity"]) for run in runs]),
            Column("seed", [run["seed"] for run in runs]),
            Column("epochs", [epochs_text(run) for run in runs]),
            Column("in all", [str(sum(run["epochs"].values())) for run in runs]),
            Column("to train", ["infeasible" if run["infeasible"] else str(run["trains"]) for run in runs]),
        ],
        width,
    )
