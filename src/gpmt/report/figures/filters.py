"""A map of the filters and channels that are entirely zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gpmt.errors import FigureError
from gpmt.report.content.subject import Subject
from gpmt.report.figures.block_names import height_of_names
from gpmt.report.figures.choice import chosen, why
from gpmt.report.figures.legends import place_legend
from gpmt.report.figures.sizes import TALLEST, new_figure, shortened
from gpmt.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gpmt.report.figures.paper_figure import PaperFigure

_NAMED = 60
"""Up to so many tensors have their names and counts written beside them."""


@dataclass(frozen=True)
class Filters:
    """The filters (outputs) and channels (inputs) of one tensor, and the places of those without any weight."""

    tensor: str
    outputs: int
    dead_outputs: tuple[int, ...]
    inputs: int
    dead_inputs: tuple[int, ...]


def filters_of(subject: Subject, tensor: str = "") -> list[Filters]:
    """Return what a map of filters draws: all tensors, or one.

    Raises `FigureError` where it is not known.
    """
    if not subject.channels:
        raise FigureError(f"{subject.path} has no map of filters to draw; {why(subject, 'channels')}")
    maps = list(subject.channels)
    if tensor:
        maps = [chosen({each.tensor: each for each in maps}, tensor, subject.path)]
    return [
        Filters(
            each.tensor,
            len(each.kept_by_output),
            _zeros(each.kept_by_output),
            len(each.kept_by_input),
            _zeros(each.kept_by_input),
        )
        for each in maps
    ]


def _zeros(counts: Sequence[int]) -> tuple[int, ...]:
    return tuple(place for place, count in enumerate(counts) if count == 0)


def filters_figure(
    filters: Sequence[Filters], *, width: str | float = "column", title: str = ""
) -> PaperFigure:
    """Draw a strip for each tensor: its filters from the first to the last, those that are zero marked.

    The left column has filters (outputs), the right one channels (inputs); all strips are equally long, and the
    numbers beside them count those that are zero.

    Args:
        filters: what `filters_of` returns.
        width: "column" (8.5 cm), "page" (17.5 cm), or cm.
        title: above the figure; none by default.
    """
    count = len(filters)
    named = count <= _NAMED
    height = height_of_names(count) if named else min(TALLEST - 1, 2 + 0.12 * count)
    with new_figure(width, height) as figure:
        left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.12})
        _strips(left, [(each.outputs, each.dead_outputs) for each in filters], counted=named)
        _strips(right, [(each.inputs, each.dead_inputs) for each in filters], counted=named)
        for axes, what in ((left, "filters"), (right, "channels")):
            axes.set(ylim=(count - 0.4, -0.6), xlim=(0, 1), xlabel=what)
            axes.set_xticks([])
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False)
            axes.spines[["left", "bottom"]].set_visible(False)
        if named:
            left.set_yticks(
                range(count), [shortened(each.tensor.removesuffix(".weight"), 22) for each in filters]
            )
        else:
            left.set_ylabel("tensor, in the order of the network")
        place_legend(figure, left, title)
    return figure


def _strips(axes: Axes, rows: Sequence[tuple[int, Sequence[int]]], *, counted: bool) -> None:
    """Draw a strip for each row, and in it the places that are zero."""
    tall = 0.66 if counted else 0.9
    live = [(row, 0.0, 1.0) for row in range(len(rows))]
    dead = [
        (row, start / size, length / size)
        for row, (size, zeros) in enumerate(rows)
        for start, length in runs(zeros)
    ]
    _boxes(axes, live, tall, color=LIGHT.kept, alpha=0.3, linewidth=0, label="has weights", gid="strips")
    if dead:
        _boxes(axes, dead, tall, color=LIGHT.dead, linewidth=0.15, label="all zero", gid="dead")
    if counted:
        for row, (size, zeros) in enumerate(rows):
            axes.text(1.02, row, f"{len(zeros):,}/{size:,}", va="center", fontsize=6, color=LIGHT.muted)


def _boxes(axes: Axes, bars: Sequence[tuple[int, float, float]], tall: float, **look: Any) -> None:
    """Draw bars, each at (row, start, length), as one collection; drawn one by one, thousands take seconds."""
    from matplotlib.collections import PolyCollection

    corners = [
        [(x, row - tall / 2), (x + length, row - tall / 2), (x + length, row + tall / 2), (x, row + tall / 2)]
        for row, x, length in bars
    ]
    axes.add_collection(PolyCollection(corners, **look))


def runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Return the (first, length) of each run of places that follow one another.

    >>> runs([0, 1, 2, 5])
    [(0, 3), (5, 1)]
    """
    found = []
    for _, members in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
        run = [place for _, place in members]
        found.append((run[0], len(run)))
    return found
