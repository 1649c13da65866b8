"""The magnitudes of weights before and after pruning, with the threshold."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from gpmt.report.content.subject import Histogram, Subject
from gpmt.report.page.picture import COLOURS, Picture, Table, View, faint
from gpmt.report.page.wording import percent, power_of_ten

_MOST = 400
"""So many blocks can be chosen."""


def histograms(subject: Subject) -> Picture | None:
    """Return the figure of a subject's magnitudes, None where they are not known."""
    known = [one for one in subject.histograms[:_MOST] if one.before is not None or one.after is not None]
    if not known:
        return None
    views = [_view(one) for one in known]
    return Picture("Magnitudes of the weights", views, 340, choose="Block")


def _view(histogram: Histogram) -> View:
    name = histogram.name or "all weights in scope"
    return View(name, _finding(histogram, name), _traces(histogram), _layout(histogram), _table(histogram))


def _finding(histogram: Histogram, name: str) -> str:
    """Say how many weights were and are there, and where the threshold lies among them."""
    said = []
    before, after = histogram.before, histogram.after
    if before is not None:
        total = sum(before) + histogram.zeros_before
        said.append(f"{total:,} weights before pruning" + _zeros(histogram.zeros_before))
    if after is not None:
        said.append(f"{sum(after):,} that are not zero after it")
    sentence = f"{name[0].upper()}{name[1:]}: {', '.join(said)}." if not histogram.name else ""
    sentence = sentence or f"{name}: {', '.join(said)}."
    if histogram.threshold:
        sentence += f" The threshold is {histogram.threshold:.4g}"
        if before is not None and any(before):
            place = bisect_left(histogram.edges, math.log10(histogram.threshold))
            smaller: Sequence[int] = before[: max(place - 1, 0)]
            zeros = histogram.zeros_before
            below = (sum(smaller) + zeros) / (sum(before) + zeros)
            sentence += f": more than {percent(below, 1)} of the magnitudes lie below it" if below else ""
        sentence += "."
    return sentence


def _zeros(zeros: int) -> str:
    return f" ({zeros:,} of them zero, which have no bin)" if zeros else ""


def _traces(histogram: Histogram) -> list[dict[str, Any]]:
    traces: list[dict[str, Any]] = []
    looks: list[tuple[tuple[int, ...] | None, str, str, str, float]] = [
        (histogram.before, "before pruning", COLOURS.muted, "dot", 0.18),
        (histogram.after, "after pruning", COLOURS.kept, "solid", 0.45),
    ]
    for counts, name, colour, dash, share in looks:
        if counts is None:
            continue
        x, y = _steps(histogram.edges, counts)
        traces.append(
            {
                "x": x,
                "y": y,
                "mode": "lines",
                "line": {"color": colour, "dash": dash, "width": 1.6},
                "fill": "tozeroy",
                "fillcolor": faint(colour, share),
                "name": name,
                "hoverinfo": "skip",
            }
        )
        middles = [(low + high) / 2 for low, high in zip(histogram.edges, histogram.edges[1:], strict=False)]
        traces.append(
            {
                "x": middles,
                "y": counts,
                "mode": "markers",
                "marker": {"color": colour, "opacity": 0, "size": 12},
                "showlegend": False,
                "hovertext": [
                    f"|w| from {10**low:.3g} to {10**high:.3g}<br>{number:,} weights {name}"
                    for low, high, number in zip(histogram.edges, histogram.edges[1:], counts, strict=False)
                ],
                "hoverinfo": "text",
            }
        )
    return traces


def _steps(edges: Sequence[float], counts: Sequence[int]) -> tuple[list[float], list[float]]:
    """Return the outline of bars."""
    x, y = [edges[0]], [0.0]
    for low, high, number in zip(edges, edges[1:], counts, strict=False):
        x += [low, high]
        y += [number, number]
    return [*x, edges[-1]], [*y, 0.0]


def _layout(histogram: Histogram) -> dict[str, Any]:
    first, last = histogram.edges[0], histogram.edges[-1]
    most = max((*(histogram.before or ()), *(histogram.after or ())), default=0)
    step = max(1, math.ceil((last - first) / 8))
    powers = range(math.ceil(first), math.floor(last) + 1, step)
    layout: dict[str, Any] = {
        "xaxis": {
            "range": [first, last],
            "tickvals": list(powers),
            "ticktext": [power_of_ten(power) for power in powers],
            "title": {"text": "magnitude |w|, logarithmic"},
        },
        "yaxis": {"title": {"text": "weights in a bin"}, "range": [0, 1.18 * max(most, 1)]},
        "hovermode": "closest",
    }
    if histogram.threshold:
        where = math.log10(histogram.threshold)
        layout["shapes"] = [
            {"type": "line", "x0": where, "x1": where, "yref": "paper", "y0": 0, "y1": 1}
            | {"line": {"color": COLOURS.threshold, "width": 2, "dash": "dash"}}
        ]
        layout["annotations"] = [
            {"x": where, "y": 1, "yref": "paper", "yanchor": "top", "xanchor": "right", "xshift": -4}
            | {"text": f"threshold {histogram.threshold:.4g}", "showarrow": False}
            | {"font": {"color": COLOURS.threshold}}
        ]
    return layout


def _table(histogram: Histogram) -> Table:
    bins = len(histogram.edges) - 1
    before = _numbers(histogram.before, bins)
    after = _numbers(histogram.after, bins)
    rows = [
        [f"{10**low:.3g}", f"{10**high:.3g}", was, is_]
        for (low, high), was, is_ in zip(pairwise(histogram.edges), before, after, strict=True)
    ]
    zeros = ["exactly 0", ""]
    zeros += ["–" if histogram.before is None else f"{histogram.zeros_before:,}"]
    zeros += ["–" if histogram.after is None else f"{histogram.zeros_after:,}"]
    return Table(["from", "to", "before pruning", "after pruning"], [zeros, *rows], words=())


def _numbers(counts: Sequence[int] | None, bins: int) -> list[str]:
    return ["–"] * bins if counts is None else [f"{number:,}" for number in counts]
