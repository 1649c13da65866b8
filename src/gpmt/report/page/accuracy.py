"""Accuracy against sparsity, multiply-accumulates and latency, with deviations over seeds and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from gpmt.report.content.grid import Cell, Grid
from gpmt.report.content.pareto import pareto
from gpmt.report.page.picture import COLOURS, Picture, Table, View, text
from gpmt.report.page.wording import count, listed, percent, spread
from gpmt.report.palette import style


def against_sparsity(grid: Grid) -> Picture | None:
    """Return top-1 of each method by sparsity, None where nothing is measured."""
    known = [cell for cell in grid.cells if cell.finetuned is not None]
    if not known:
        return None
    asked = sorted({cell.asked for cell in known if cell.asked < 1})
    traces = _lines(known, lambda cell: _nines(cell.asked))
    layout: dict[str, Any] = {
        "xaxis": {
            "tickvals": [_nines(value) for value in asked],
            "ticktext": [percent(value) for value in asked],
            "title": {"text": "sparsity; density is logarithmic"},
        },
        "yaxis": {"title": {"text": "top-1 %"}, "rangemode": "tozero"},
    }
    if grid.dense is not None:
        traces.append(_dense(grid.dense, [_nines(value) for value in asked]))
    view = View("", _finding(grid, known), traces, layout, table(grid))
    return Picture("Accuracy against sparsity", [view], _height(known))


def against_cost(grid: Grid, cost: str) -> Picture | None:
    """Return top-1 by ``macs`` or ``latency_ms`` with the Pareto front, None where that is not measured."""
    known = [cell for cell in grid.cells if cell.finetuned is not None and getattr(cell, cost) is not None]
    if not known:
        return None
    of: Callable[[Cell], float] = lambda cell: float(getattr(cell, cost))  # noqa: E731
    scale = 100 if cost == "macs" else 1
    front = pareto([(of(cell), cell.finetuned.mean) for cell in known if cell.finetuned])
    best = [known[index] for index in front]
    traces = [
        {
            "x": [scale * of(cell) for cell in best],
            "y": [100 * cell.finetuned.mean for cell in best if cell.finetuned],
            "mode": "lines+markers",
            "line": {"color": COLOURS.text, "width": 1.5, "shape": "hv"},
            "marker": {"symbol": "circle-open", "size": 17, "color": COLOURS.text, "line": {"width": 1.5}},
            "name": "Pareto front",
            "hoverinfo": "skip",
        },
        *_lines(known, lambda cell: scale * of(cell), joined=False),
    ]
    title, unit = {"macs": ("MACs", "MACs left, % of dense"), "latency_ms": ("latency", "latency, ms")}[cost]
    axis: dict[str, Any] = {"title": {"text": unit}}
    costs = [scale * of(cell) for cell in known]
    if min(costs) > 0 and max(costs) >= 10 * min(costs):
        ticks = _round_numbers(min(costs), max(costs))
        axis = {"title": {"text": f"{unit}, logarithmic"}, "type": "log"}
        axis |= {"tickvals": ticks, "ticktext": [f"{value:g}" for value in ticks]}
    layout = {"xaxis": axis, "yaxis": {"title": {"text": "top-1 %"}, "rangemode": "tozero"}}
    names = [f"{cell.label} at {percent(cell.asked)}" for cell in best]
    finding = (
        f"{count(len(best), 'point')} of {len(known)} on the Pareto front (rings): nothing else is as accurate with "
        f"less. From least to most: {listed(names, 4)}."
    )
    rows = [
        [
            cell.label,
            percent(cell.asked),
            f"{scale * of(cell):.4g}",
            spread(cell.finetuned),
            "yes" if index in front else "",
        ]
        for index, cell in enumerate(known)
    ]
    heads = ["method", "sparsity", unit, "top-1", "on the front"]
    return Picture(
        f"Accuracy against {title}", [View("", finding, traces, layout, Table(heads, rows))], _height(known)
    )


def _round_numbers(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2 and 5 times a power of ten from just below `low` to just above `high`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]


def _nines(sparsity: float) -> float:
    """Return the place of a sparsity: from 90 % to 99 % is as far as from 99 % to 99.9 %."""
    return -math.log10(max(1 - sparsity, 1e-9))


def _height(cells: Sequence[Cell]) -> int:
    return 400 + 9 * len({cell.label for cell in cells})


def _lines(
    cells: Sequence[Cell], place: Callable[[Cell], float], *, joined: bool = True
) -> list[dict[str, Any]]:
    """Return a line for each label, or its points; what has a floor is filled, what has none is open."""
    traces = []
    for index, label in enumerate(dict.fromkeys(cell.label for cell in cells)):
        these = sorted((cell for cell in cells if cell.label == label), key=lambda cell: cell.asked)
        look = style(index, COLOURS)
        means = [100 * cell.finetuned.mean for cell in these if cell.finetuned]
        deviations = [100 * (cell.finetuned.std or 0) for cell in these if cell.finetuned]
        marker = look.marker if these[0].floor else f"{look.marker}-open"
        traces.append(
            {
                "x": [place(cell) for cell in these],
                "y": means,
                "mode": "lines+markers" if joined else "markers",
                "name": text(label),
                "line": {"color": look.colour, "dash": look.dash, "width": 2},
                "marker": {"color": look.colour, "symbol": marker, "size": 9, "line": {"width": 1.5}},
                "hovertext": [_hover(cell) for cell in these],
                "hoverinfo": "text",
            }
            | (
                {"error_y": {"type": "data", "array": deviations, "color": look.colour, "thickness": 1.2}}
                if any(deviations)
                else {}
            )
        )
    return traces


def _hover(cell: Cell) -> str:
    lines = [text(cell.label), f"{percent(cell.asked)}: top-1 {spread(cell.finetuned)}"]
    lines.append(f"{count(len(cell.seeds), 'seed')}, {cell.dead} dead layers")
    if cell.macs is not None:
        lines.append(f"{percent(cell.macs)} of the MACs")
    return "<br>".join(lines)


def _dense(dense: Any, where: Sequence[float]) -> dict[str, Any]:
    return {
        "x": [min(where), max(where)],
        "y": [100 * dense.mean] * 2,
        "mode": "lines",
        "name": "dense",
        "line": {"color": COLOURS.dense, "dash": "dot", "width": 1.5},
        "hovertext": [f"dense: {spread(dense)}"] * 2,
        "hoverinfo": "text",
    }


def _finding(grid: Grid, cells: Sequence[Cell]) -> str:
    """Name the best of each sparsity, and how the bars are to be read."""
    said = []
    for asked in sorted({cell.asked for cell in cells}):
        best = max(
            (cell for cell in cells if cell.asked == asked and cell.finetuned),
            key=lambda cell: cell.finetuned.mean if cell.finetuned else 0,
        )
        said.append(f"{percent(asked)}: {best.label}, {spread(best.finetuned)}")
    sentence = f"The best after fine-tuning at {'; '.join(said)}."
    if grid.dense is not None:
        sentence += f" Dense, with the same number of epochs: {spread(grid.dense)}."
    deviations = any(cell.finetuned and cell.finetuned.std is not None for cell in cells)
    bars = "Bars are one sample standard deviation over the seeds." if deviations else "One seed, so no bars."
    return f"{sentence} {bars} Open symbols: without floors."


def table(grid: Grid) -> Table:
    """Return every cell of a grid with all that is known of it."""
    some = {
        name: any(getattr(cell, name) is not None for cell in grid.cells)
        for name in ("pruned", "recalibrated", "finetuned_top5", "macs", "latency_ms", "fewest")
    }
    heads = ["method", "sparsity", "seeds", "reached", "dense"]
    heads += ["pruned"] * some["pruned"] + ["recalibrated"] * some["recalibrated"] + ["fine-tuned"]
    heads += ["top-5"] * some["finetuned_top5"] + ["MACs"] * some["macs"] + ["ms"] * some["latency_ms"]
    heads += ["fewest kept"] * some["fewest"] + ["dead layers", "without a result"]
    rows = []
    for cell in grid.cells:
        row = [cell.label, percent(cell.asked), ", ".join(map(str, cell.seeds)) or "–"]
        row += ["–" if cell.sparsity is None else percent(cell.sparsity.mean, 4), spread(cell.dense)]
        row += [spread(cell.pruned)] * some["pruned"] + [spread(cell.recalibrated)] * some["recalibrated"]
        row += [spread(cell.finetuned)] + [spread(cell.finetuned_top5)] * some["finetuned_top5"]
        row += ["–" if cell.macs is None else percent(cell.macs)] * some["macs"]
        row += ["–" if cell.latency_ms is None else f"{cell.latency_ms:.3g}"] * some["latency_ms"]
        row += ["–" if cell.fewest is None else f"{cell.fewest:,}"] * some["fewest"]
        rows.append([*row, f"{cell.dead}" if cell.seeds else "–", "; ".join(cell.lost)])
    return Table(heads, rows, words=(0, len(heads) - 1))
