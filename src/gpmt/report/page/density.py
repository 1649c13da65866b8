"""How dense each block is, with its floor, where the floor binds, and the blocks that keep nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from gpmt.report.content.subject import Layer, Subject
from gpmt.report.page.picture import COLOURS, Picture, Table, View, faint, shortened, text
from gpmt.report.page.wording import count, listed, percent

_NAMED = 64
"""So many blocks have a line with a name each."""
_POINTS = 240
"""So many places a long network is drawn in; each is one block, or several in order."""


def density(subject: Subject) -> Picture | None:
    """Return the figure of a subject's blocks, None where they are not known."""
    layers = [layer for layer in subject.layers if layer.numel]
    if not layers:
        return None
    draw = _named if len(layers) <= _NAMED else _in_order
    traces, layout, height = draw(layers)
    view = View("", finding(subject), traces, layout, table(subject))
    return Picture("Density of each block", [view], height)


def finding(subject: Subject) -> str:
    """Say what the blocks show: those that keep nothing, the sparsest, and where floors bind."""
    layers = [layer for layer in subject.layers if layer.numel]
    unit, sentences = subject.unit, []
    if dead := [layer.name for layer in layers if layer.dead]:
        keeps = "keeps" if len(dead) == 1 else "keep"
        some = f"{listed(dead)} of {count(len(layers), 'block')}" if len(dead) <= 3 else ""
        some = some or f"{len(dead):,} of {count(len(layers), 'block')}"
        more = f": {listed(dead)}" if len(dead) > 3 else ""
        sentences.append(f"{some} {keeps} none of the {unit}{more}.")
    else:
        sentences.append(f"All {count(len(layers), 'block')} keep {unit}.")
    if alive := [layer for layer in layers if not layer.dead]:
        least, most = min(alive, key=lambda x: x.density), max(alive, key=lambda x: x.density)
        other = " otherwise" if dead else ""
        sentences.append(
            f"The sparsest{other} is {least.name} with {least.kept:,} of {least.numel:,} "
            f"({percent(least.density)}), the densest {most.name} with {percent(most.density)}."
        )
    binding = sum(layer.binds is True for layer in layers)
    if any(layer.floor for layer in layers) and any(layer.binds is not None for layer in layers):
        sentences.append(f"The floor decides how many {unit} stay in {count(binding, 'block')}.")
    return " ".join(sentences)


def table(subject: Subject) -> Table:
    """Return all blocks with their counts."""
    layers = subject.layers
    floors = any(layer.floor is not None for layer in layers)
    outputs = any(layer.outputs is not None for layer in layers)
    macs = any(layer.macs_sparse is not None for layer in layers)
    groups = any(layer.group is not None for layer in layers)
    heads = ["block", "kind", "shape", subject.unit, "kept", "density"]
    heads += ["floor", "floor binds"] * floors + ["outputs alive"] * outputs
    heads += ["MACs"] * macs + ["group"] * groups
    rows = []
    for layer in layers:
        row = [
            layer.name,
            layer.kind,
            "×".join(map(str, layer.shape)),
            f"{layer.numel:,}",
            "0 (dead)" if layer.dead else f"{layer.kept:,}",
            percent(layer.density, 3),
        ]
        if floors:
            binds = {True: "binds", False: "no", None: "–"}[layer.binds]
            row += ["–" if layer.floor is None else f"{layer.floor:,}", binds]
        if outputs:
            row.append("–" if layer.outputs is None else f"{layer.live_outputs or 0:,} of {layer.outputs:,}")
        if macs:
            row.append("–" if layer.macs_sparse is None else f"{layer.macs_sparse:,}")
        rows.append([*row, layer.group or ""] if groups else row)
    return Table(heads, rows, words=(0, 1, 2, *([len(heads) - 1] if groups else [])))


def _state(layer: Layer) -> str:
    return "dead" if layer.dead else "floor" if layer.binds else "kept"


_LOOKS: dict[str, dict[str, Any]] = {
    "kept": {"color": COLOURS.kept, "symbol": "circle", "size": 9},
    "floor": {"color": COLOURS.floor, "symbol": "diamond", "size": 10},
    "dead": {"color": COLOURS.dead, "symbol": "x", "size": 10},
}
_MEANINGS = {"kept": "kept by the threshold", "floor": "kept by its floor", "dead": "nothing kept"}


def _lowest(layers: Sequence[Layer]) -> int:
    """Return the power of ten below all densities and floors that are not zero."""
    shares = [layer.density for layer in layers if layer.kept]
    shares += [layer.floor / layer.numel for layer in layers if layer.floor]
    return min(math.floor(math.log10(min(shares, default=0.1))), -1)


def _scale(lowest: int, dead: bool) -> tuple[float, dict[str, Any]]:
    """Return where dead blocks are, and the axis: logarithmic, from them to all weights."""
    place = lowest - 0.5
    ticks = [(float(power), percent(10.0**power)) for power in range(lowest, 1)]
    if dead:
        ticks.insert(0, (place, "none"))
    return place, {
        "range": [place - 0.15 if dead else lowest - 0.05, 0.08],
        "tickvals": [value for value, _ in ticks],
        "ticktext": [label for _, label in ticks],
        "title": {"text": "share kept, logarithmic"},
    }


def _hover(layer: Layer) -> str:
    lines = [text(layer.name), f"{layer.kept:,} of {layer.numel:,} kept: {percent(layer.density)}"]
    if layer.floor:
        binds = {True: ", which binds", False: ", which does not bind", None: ""}[layer.binds]
        lines.append(f"floor {layer.floor:,}{binds}")
    return "<br>".join(lines)


def _named(layers: Sequence[Layer]) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """Draw a line with a name for each block, the first at the top."""
    place, axis = _scale(_lowest(layers), any(layer.dead for layer in layers))
    where = [place if layer.dead else math.log10(layer.density) for layer in layers]
    stems: dict[str, Any] = {"x": [], "y": []}
    for index, value in enumerate(where):
        stems["x"] += [place - 1, value, None]
        stems["y"] += [index, index, None]
    traces: list[dict[str, Any]] = [
        {**stems, "mode": "lines", "line": {"color": COLOURS.grid, "width": 2}, "hoverinfo": "skip"}
        | {"showlegend": False}
    ]
    if marks := _floors(layers):
        at, shares = zip(*marks, strict=True)
        traces.append(
            {"x": shares, "y": at, "mode": "markers", "name": "floor", "hoverinfo": "skip"}
            | {"marker": {"symbol": "line-ns-open", "size": 13, "color": COLOURS.muted, "line": {"width": 2}}}
        )
    traces += _points(layers, range(len(layers)), where, across=False)
    layout = {
        "xaxis": axis,
        "yaxis": {
            "range": [len(layers) - 0.4, -0.6],
            "tickvals": list(range(len(layers))),
            "ticktext": [shortened(layer.name) for layer in layers],
            "showgrid": False,
            "automargin": True,
        },
    }
    return traces, layout, 110 + 19 * len(layers)


def _points(
    layers: Sequence[Layer], places: Sequence[int], values: Sequence[float], *, across: bool
) -> list[dict[str, Any]]:
    """Return the points of all blocks, those of each state with a look of its own."""
    traces = []
    for state, look in _LOOKS.items():
        chosen = [index for index, layer in enumerate(layers) if _state(layer) == state]
        if not chosen:
            continue
        at, shares = [places[index] for index in chosen], [values[index] for index in chosen]
        traces.append(
            {
                "x": at if across else shares,
                "y": shares if across else at,
                "mode": "markers",
                "marker": look if not across else {**look, "size": look["size"] - 2},
                "name": _MEANINGS[state],
                "hovertext": [_hover(layers[index]) for index in chosen],
                "hoverinfo": "text",
            }
        )
    return traces


def _floors(layers: Sequence[Layer]) -> list[tuple[int, float]]:
    """Return the places and the logarithms of the floors that are not zero."""
    return [(at, math.log10(layer.floor / layer.numel)) for at, layer in enumerate(layers) if layer.floor]


def _in_order(layers: Sequence[Layer]) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    """Draw the blocks from left to right; very many are drawn as the range of neighbours."""
    place, axis = _scale(_lowest(layers), any(layer.dead for layer in layers))
    single = len(layers) <= _POINTS
    traces = _singles(layers, place) if single else _ranges(layers, place)
    title = "blocks in order" if single else "blocks in order, several to a place"
    return traces, {"yaxis": axis, "xaxis": {"title": {"text": title}, "showgrid": False}}, 420


def _singles(layers: Sequence[Layer], place: float) -> list[dict[str, Any]]:
    where = [place if layer.dead else math.log10(layer.density) for layer in layers]
    traces = _points(layers, range(len(layers)), where, across=True)
    if marks := _floors(layers):
        at, shares = zip(*marks, strict=True)
        traces.append(
            {"x": at, "y": shares, "mode": "lines", "name": "floor", "hoverinfo": "skip"}
            | {"line": {"color": COLOURS.muted, "dash": "dot", "width": 1.5, "shape": "hvh"}}
        )
    return traces


def _ranges(layers: Sequence[Layer], place: float) -> list[dict[str, Any]]:
    """Return the least, the middle and the largest density of neighbours, and crosses where some are dead."""
    ends = [len(layers) * index // _POINTS for index in range(_POINTS + 1)]
    at, low, middle, high, floors, said = [], [], [], [], [], []
    dead_at, dead_said = [], []
    for start, stop in pairwise(ends):
        these = layers[start:stop]
        alive = sorted(layer.density for layer in these if not layer.dead)
        names = f"blocks {start + 1:,} to {stop:,}: {shortened(these[0].name)} to {shortened(these[-1].name)}"
        if dead := [layer for layer in these if layer.dead]:
            dead_at.append(start)
            dead_said.append(
                f"{names}<br>{len(dead):,} of {len(these):,} keep nothing: {shortened(dead[0].name)}"
                + (" and others" if len(dead) > 1 else "")
            )
        if not alive:
            continue
        at.append(start)
        low.append(math.log10(alive[0]))
        middle.append(math.log10(median(alive)))
        high.append(math.log10(alive[-1]))
        floor = [layer.floor / layer.numel for layer in these if layer.floor]
        floors.append(math.log10(median(floor)) if floor else None)
        said.append(f"{names}<br>{percent(alive[0])} to {percent(alive[-1])} kept")
    edge = {"mode": "lines", "line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = [
        {"x": at, "y": low, **edge, "showlegend": False},
        {"x": at, "y": high, **edge, "fill": "tonexty", "fillcolor": faint(COLOURS.kept, 0.3)}
        | {"name": "least to largest"},
        {"x": at, "y": middle, "mode": "lines", "name": "middle", "hovertext": said, "hoverinfo": "text"}
        | {"line": {"color": COLOURS.kept, "width": 1.5, "shape": "hv"}},
    ]
    if any(value is not None for value in floors):
        traces.append(
            {"x": at, "y": floors, "mode": "lines", "name": "floor (middle)", "hoverinfo": "skip"}
            | {"line": {"color": COLOURS.muted, "dash": "dot", "width": 1.5, "shape": "hv"}}
        )
    if dead_at:
        traces.append(
            {"x": dead_at, "y": [place] * len(dead_at), "mode": "markers", "name": "some keep nothing"}
            | {"marker": {**_LOOKS["dead"], "size": 7}, "hovertext": dead_said, "hoverinfo": "text"}
        )
    return traces
