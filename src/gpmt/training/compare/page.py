"""The page of a comparison: its tables, how it was made, and what a credible report of pruning contains."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpmt.report.content.checklist import checklist
from gpmt.report.content.comparison_folder import comparison_grid
from gpmt.report.content.report import Report
from gpmt.terminal.comparison import (
    cell_text,
    epochs_line,
    epochs_text,
    floor_text,
    infeasible_lines,
    legend,
    marks,
    percent,
    score_text,
    time_text,
)


def page(document: Mapping[str, Any], sweep: Mapping[str, Any]) -> str:
    """Return the page in Markdown.

    Args:
        document: the table, as `outcome` returns it.
        sweep: what sweep.json holds: commands and versions.
    """
    seeds = document["seeds"]
    report = Report(document["title"], grids=[comparison_grid(document, sweep, Path())])
    spread = "mean ± sample standard deviation over the seeds" if len(seeds) > 1 else "one seed"
    parts = [
        f"# Comparison: {document['title']}",
        f"{document['model']} on {document['data']}; {epochs_line(document)}. Seeds {', '.join(map(str, seeds))}; "
        f"{document['finished']} of {document['total']} runs are finished.",
        "```\n" + "\n".join(sweep["commands"]) + "\n```",
        "## Accuracy",
        f"Top-1 % on the test data after the last epoch, {spread}. `dense` is the network that is never pruned, with "
        "the same epochs. Times are seconds measured in training and evaluation, of the dense epochs too where "
        "another run trained them.",
        _accuracies(document),
        "\n".join(_legend(document)),
        *_section("Right after pruning, before fine-tuning", _before(document)),
        *_section("Top-5 %", _top5(document)),
        "## What is kept",
        _kept_note(document),
        _kept(document),
        *_section("Runs without a result", _without_result(document)),
        "## What a credible report contains",
        "\n".join(
            f"* [{'x' if item.present else ' '}] {item.text}" + (f": {item.note}" if item.note else "")
            for item in checklist(report)
        ),
        "## Made with",
        ", ".join(f"{name} {version}" for name, version in sweep["versions"].items())
        + "; processor, threads and the settings of each run are in its metrics.json.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def _accuracies(document: Mapping[str, Any]) -> str:
    heads = ["method", "floor", *map(percent, document["sparsities"]), "epochs", "time"]
    rows = []
    for line in (document["dense"], *document["rows"]):
        cells = [_marked(cell) for cell in line["cells"]]
        if len(cells) < len(document["sparsities"]):
            cells *= len(document["sparsities"])
        rows.append([line["method"], floor_text(line), *cells, epochs_text(line), time_text(line)])
    return _table(heads, rows)


def _marked(cell: Mapping[str, Any]) -> str:
    """Return the accuracy of a cell, the best of its sparsity in bold."""
    text = cell_text(cell)
    return (f"**{text}**" if cell["best"] else text) + marks(cell).replace("*", "")


def _legend(document: Mapping[str, Any]) -> Iterable[str]:
    for line in legend(document):
        mark, _, meaning = line.partition(" ")
        yield f"bold: {meaning}  " if mark == "*" else f"{mark}: {meaning}  "


def _scores(document: Mapping[str, Any], measure: str) -> str:
    """Return a table of one accuracy, of the rows that have it."""
    rows = [
        [line["method"], floor_text(line), *(score_text(cell[measure]) for cell in line["cells"])]
        for line in document["rows"]
        if any(cell[measure] for cell in line["cells"])
    ]
    return _table(["method", "floor", *map(percent, document["sparsities"])], rows) if rows else ""


def _before(document: Mapping[str, Any]) -> str:
    table = _scores(document, "pruned_top1")
    if not table:
        return ""
    parts = ["Top-1 %; methods that prune while they train have no such moment.", table]
    if recalibrated := _scores(document, "recalibrated_top1"):
        parts += ["With the statistics of the batch norms measured again:", recalibrated]
    return "\n\n".join(parts)


def _top5(document: Mapping[str, Any]) -> str:
    return _scores(document, "finetuned_top5")


def _kept_note(document: Mapping[str, Any]) -> str:
    weights = document["weights"]
    of = "" if weights is None else f" of {weights:,} prunable weights"
    return (
        f"Sparsity is the share{of} that is zero, as counted in the written file. Fewest is the smallest number of "
        "weights that a tensor keeps in any seed, dead the most tensors without weights in a seed. MACs are those of "
        "convolutions and linear layers for one input, without zero weights, in percent of the dense ones. "
        "`gpmt inspect` shows the layers of a run's model.pt."
    )


def _kept(document: Mapping[str, Any]) -> str:
    rows = [
        [
            line["method"],
            floor_text(line),
            percent(cell["sparsity"]),
            f"{100 * cell['sparsity_reached']['mean']:.4f} %",
            f"{cell['kept']['mean']:,.0f}",
            f"{cell['fewest_kept']:,}",
            str(cell["dead"]),
            "–" if cell["macs"] is None else f"{100 * cell['macs']:.2f} %",
            "yes" if cell["verified"] else "NO",
        ]
        for line in document["rows"]
        for cell in line["cells"]
        if cell["kept"]
    ]
    heads = ["method", "floor", "asked for", "sparsity", "kept", "fewest", "dead", "MACs", "verified"]
    return _table(heads, rows)


def _without_result(document: Mapping[str, Any]) -> str:
    lines = infeasible_lines(document["infeasible"])
    lines += [f"{entry['run']}: {entry['error']}" for entry in document["failed"]]
    return "\n".join(f"* {line}" for line in lines)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, the first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))
