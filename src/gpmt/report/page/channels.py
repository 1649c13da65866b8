"""Which filters and channels are entirely zero: a strip for each tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpmt.report.content.subject import ChannelMap, Subject
from gpmt.report.page.picture import COLOURS, Picture, Table, View, shortened
from gpmt.report.page.wording import count, listed

_COLUMNS = 256
"""Places of a strip; a tensor with more outputs has several at a place."""
_STRIPS = 80
"""So many tensors have a strip, those with the most that is zero."""


def channels(subject: Subject) -> Picture | None:
    """Return the maps of a subject's outputs and inputs, None where they are not known."""
    maps = [one for one in subject.channels if one.kept_by_output]
    if not maps:
        return None
    views = [
        _view(maps, [one.kept_by_output for one in maps], "filters and rows (outputs)", "output"),
        _view(maps, [one.kept_by_input for one in maps], "channels and columns (inputs)", "input"),
    ]
    shown = min(len(maps), _STRIPS)
    return Picture("Filters and channels that are entirely zero", views, 130 + 20 * shown, choose="Show")


def _view(maps: Sequence[ChannelMap], kept: Sequence[Sequence[int]], label: str, noun: str) -> View:
    zeros = [sum(not number for number in numbers) for numbers in kept]
    most = sorted(range(len(maps)), key=lambda index: -zeros[index])[:_STRIPS]
    chosen = sorted(most)
    finding = _finding(maps, kept, zeros, noun)
    if len(chosen) < len(maps):
        finding += f" The figure has the {len(chosen)} tensors with the most, the table all."
    traces = [_strips([maps[index].tensor for index in chosen], [kept[index] for index in chosen], noun)]
    layout: dict[str, Any] = {
        "xaxis": {
            "visible": False,
            "range": [-0.5, _COLUMNS - 0.5],
        },
        "yaxis": {
            "range": [len(chosen) - 0.5, -0.5],
            "tickvals": list(range(len(chosen))),
            "ticktext": [shortened(maps[index].tensor) for index in chosen],
            "showgrid": False,
            "automargin": True,
        },
    }
    rows = [
        [
            one.tensor,
            f"{len(numbers):,}",
            f"{zero:,}",
            f"{min(numbers, default=0):,}",
            f"{max(numbers, default=0):,}",
        ]
        for one, numbers, zero in zip(maps, kept, zeros, strict=True)
    ]
    heads = ["tensor", f"{noun}s", "entirely zero", "fewest weights", "most weights"]
    return View(label, finding, traces, layout, Table(heads, rows))


def _finding(
    maps: Sequence[ChannelMap], kept: Sequence[Sequence[int]], zeros: Sequence[int], noun: str
) -> str:
    total = sum(map(len, kept))
    if not any(zeros):
        return f"None of the {total:,} {noun}s of {count(len(maps), 'tensor')} is entirely zero."
    gone = [one.tensor for one, numbers, zero in zip(maps, kept, zeros, strict=True) if zero == len(numbers)]
    found = sum(1 for zero in zeros if zero)
    sentence = (
        f"{sum(zeros):,} of {total:,} {noun}s are entirely zero, in {found} of {count(len(maps), 'tensor')}."
    )
    if gone:
        sentence += f" Nothing is left in {listed(gone)}."
    return sentence


def _strips(names: Sequence[str], kept: Sequence[Sequence[int]], noun: str) -> dict[str, Any]:
    """Return the strips: what is entirely zero has a colour of its own, the others are darker the more they keep."""
    shades, said = [], []
    for name, numbers in zip(names, kept, strict=True):
        most = max(numbers, default=0)
        row: list[float] = []
        labels: list[str] = []
        for place in range(_COLUMNS):
            start = place * len(numbers) // _COLUMNS
            stop = max(start + 1, (place + 1) * len(numbers) // _COLUMNS)
            these = numbers[start:stop]
            zero = sum(not number for number in these)
            if 2 * zero >= len(these):
                row.append(-0.5)
            else:
                row.append(round(math.sqrt(sum(these) / len(these) / most), 2))
            which = f"{noun} {start}" if len(these) == 1 else f"{noun}s {start} to {stop - 1}"
            state = f"{sum(these):,} weights" + (f", {zero} entirely zero" if zero else "")
            labels.append(f"{shortened(name)}<br>{which}: {state}")
        shades.append(row)
        said.append(labels)
    return {
        "type": "heatmap",
        "z": shades,
        "zmin": -0.5,
        "zmax": 1,
        "colorscale": [
            [0, COLOURS.dead],
            [0.33, COLOURS.dead],
            [0.33, f"{COLOURS.kept}/0.12"],
            [1, COLOURS.kept],
        ],
        "colorbar": {
            "orientation": "h",
            "y": 1.01,
            "yanchor": "bottom",
            "thickness": 10,
            "len": 0.9,
            "tickvals": [-0.25, 0.05, 0.95],
            "ticktext": ["all zero", "few", "most"],
            "tickangle": 0,
            "outlinewidth": 0,
        },
        "ygap": 3,
        "hovertext": said,
        "hoverinfo": "text",
    }
