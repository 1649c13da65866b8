"""Several runs, plans and files beside each other: numbers, blocks, curves, and where recipes differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpmt.report.content.subject import Subject
from gpmt.report.page.picture import COLOURS, Picture, Table, View, shortened, text
from gpmt.report.page.provenance import settings
from gpmt.report.page.summary import last_score, verdict
from gpmt.report.page.wording import count, listed, percent, seconds, size
from gpmt.report.palette import style

_LINES = 12
_NAMED = 64
_NOT_SETTINGS = ("title", "about", "expects.")


def numbers(subjects: Sequence[Subject]) -> Table:
    """Return a row for each subject."""
    heads = ["", "state", "sparsity", "kept", "dead layers", "fewest kept", "dense", "pruned", "last"]
    heads += ["non-zero", "size", "MACs left", "ms", "time"]
    rows = []
    for one in subjects:
        layers = [layer for layer in one.layers if layer.numel]
        dense, pruned, last = one.score("dense"), one.score("pruned"), last_score(one)
        sizes = one.sizes.sparse or one.sizes.gzip or one.sizes.dense
        macs = None if one.macs_sparse is None or not one.macs_dense else one.macs_sparse / one.macs_dense
        rows.append(
            [
                one.title,
                verdict(one).headline,
                percent(one.sparsity, 4) if one.numel else "–",
                f"{one.kept:,} of {one.numel:,}" if one.numel else "–",
                str(sum(layer.dead for layer in layers)) if layers else "–",
                f"{min(layer.kept for layer in layers):,}" if layers else "–",
                *(_top1(score) for score in (dense, pruned, last)),
                "–" if one.nonzero_parameters is None else f"{one.nonzero_parameters:,}",
                "–" if sizes is None else size(sizes),
                "–" if macs is None else percent(macs),
                "–" if one.latency is None else f"{one.latency.sparse_ms:.3g}",
                seconds(sum(one.seconds.values())) if one.seconds else "–",
            ]
        )
    return Table(heads, rows, words=(0, 1))


def _top1(score: Any) -> str:
    return "–" if score is None or score.top1 is None else percent(score.top1)


def differences(subjects: Sequence[Subject]) -> Table | None:
    """Return the settings in which the recipes of runs differ, None where there are none."""
    known = [one for one in subjects if one.recipe and one.kind == "run"]
    flat = [dict(settings(one.recipe)) for one in known]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    different = [
        key
        for key in keys
        if not key.startswith(_NOT_SETTINGS) and len({one.get(key, "–") for one in flat}) > 1
    ]
    if len(known) < 2 or not different:
        return None
    rows = [[key, *(one.get(key, "–") for one in flat)] for key in different]
    return Table(["setting", *(one.title for one in known)], rows, words=tuple(range(len(known) + 1)))


def densities(subjects: Sequence[Subject]) -> Picture | None:
    """Return the densities of blocks that the subjects share, None for fewer than two subjects with layers."""
    known = [one for one in subjects if one.layers][:_LINES]
    names = list(dict.fromkeys(layer.name for layer in known[0].layers)) if known else []
    known = [one for one in known if {layer.name for layer in one.layers} >= set(names)]
    if len(known) < 2 or len(names) > _NAMED:
        return None
    by_name = [{layer.name: layer for layer in one.layers} for one in known]
    shares = [layers[name].density for layers in by_name for name in names if layers[name].kept]
    lowest = min(math.floor(math.log10(min(shares, default=0.1))), -1)
    nothing, any_dead = lowest - 0.5, any(layers[name].dead for layers in by_name for name in names)
    traces: list[dict[str, Any]] = []
    for index, (one, layers) in enumerate(zip(known, by_name, strict=True)):
        look = style(index, COLOURS)
        these = [layers[name] for name in names]
        traces.append(
            {
                "x": [nothing if layer.dead else math.log10(max(layer.density, 1e-12)) for layer in these],
                "y": list(range(len(names))),
                "mode": "lines+markers",
                "name": shortened(one.title, 40),
                "line": {"color": look.colour, "dash": look.dash, "width": 1.5},
                "marker": {
                    "color": look.colour,
                    "opacity": 1,
                    "size": [11 if layer.dead else 8 for layer in these],
                    "symbol": ["x" if layer.dead else look.marker for layer in these],
                },
                "hovertext": [
                    f"{text(one.title)}<br>{text(layer.name)}: {layer.kept:,} of {layer.numel:,} kept"
                    for layer in these
                ],
                "hoverinfo": "text",
            }
        )
    ticks = [(float(power), percent(10.0**power)) for power in range(lowest, 1)]
    ticks = [(nothing, "none"), *ticks] if any_dead else ticks
    layout = {
        "xaxis": {
            "range": [nothing - 0.15 if any_dead else lowest - 0.05, 0.08],
            "tickvals": [value for value, _ in ticks],
            "ticktext": [label for _, label in ticks],
            "title": {"text": "share kept, logarithmic"},
        },
        "yaxis": {
            "range": [len(names) - 0.4, -0.6],
            "tickvals": list(range(len(names))),
            "ticktext": [shortened(name) for name in names],
            "automargin": True,
        },
    }
    said = []
    for one in known:
        dead = [layer.name for layer in one.layers if layer.dead]
        said.append(
            f"{one.title}: {len(dead)} dead ({listed(dead, 2)})" if dead else f"{one.title}: no dead block"
        )
    rows = [[name, *(percent(layers[name].density, 3) for layers in by_name)] for name in names]
    table = Table(["block", *(one.title for one in known)], rows)
    finding = f"{'; '.join(said)}."
    return Picture("Density of the blocks", [View("", finding, traces, layout, table)], 120 + 20 * len(names))


def accuracies(subjects: Sequence[Subject]) -> Picture | None:
    """Return top-1 after each epoch of all runs, None for fewer than two."""
    known = [
        one for one in subjects if any("test_top1" in epoch.values and epoch.number for epoch in one.history)
    ][:_LINES]
    if len(known) < 2:
        return None
    traces, said, rows = [], [], []
    for index, one in enumerate(known):
        look = style(index, COLOURS)
        dense = max((epoch.number for epoch in one.history if epoch.phase == "dense"), default=0)
        scored = [epoch for epoch in one.history if "test_top1" in epoch.values]
        places = [epoch.number + (dense if epoch.phase == "finetune" else 0) for epoch in scored]
        traces.append(
            {
                "x": places,
                "y": [100 * epoch.values["test_top1"] for epoch in scored],
                "mode": "lines+markers" if len(scored) <= 40 else "lines",
                "name": shortened(one.title, 40),
                "line": {"color": look.colour, "dash": look.dash, "width": 2},
                "marker": {"color": look.colour, "symbol": look.marker, "size": 7},
                "hovertext": [
                    f"{text(one.title)}<br>epoch {place}: {percent(epoch.values['test_top1'])}"
                    for place, epoch in zip(places, scored, strict=True)
                ],
                "hoverinfo": "text",
            }
        )
        said.append(f"{one.title} {percent(scored[-1].values['test_top1'])}")
        rows += [
            [one.title, str(place), percent(epoch.values["test_top1"])]
            for place, epoch in zip(places, scored, strict=True)
        ]
    layout = {
        "xaxis": {"title": {"text": "epoch, dense training included"}},
        "yaxis": {"title": {"text": "top-1 %"}, "rangemode": "tozero"},
    }
    finding = f"Top-1 on the test data after the last epoch of {count(len(known), 'run')}: {'; '.join(said)}."
    table = Table(["run", "epoch", "top-1"], rows)
    return Picture("Top-1 by epoch", [View("", finding, traces, layout, table)], 380)
