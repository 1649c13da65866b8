"""Accuracy against multiply-accumulates, latency or sparsity, with the front of the best marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpmt.report.figures.accuracy_axis import draw_references, draw_series, set_up_accuracies
from gpmt.report.figures.legends import place_legend
from gpmt.report.figures.series import Accuracies
from gpmt.report.figures.sizes import new_figure, percent
from gpmt.report.figures.sparsity_axis import set_up_sparsities
from gpmt.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gpmt.report.figures.paper_figure import PaperFigure

_WIDE = 8
"""Largest by smallest x, from which on the axis is logarithmic."""


def pareto_figure(accuracies: Accuracies, *, width: str | float = "column", title: str = "") -> PaperFigure:
    """Draw top-1 accuracy against what a network costs; a grey band joins the points that none dominates.

    Args:
        accuracies: what `accuracies_of` returns for "macs", "latency" or "sparsity".
        width: "column" (8.5 cm), "page" (17.5 cm), or cm.
        title: above the figure; none by default.
    """
    with new_figure(width, 5.6) as figure:
        axes = figure.subplots()
        draw_series(axes, accuracies, faint=True)
        _draw_front(axes, accuracies)
        draw_references(axes, accuracies)
        if accuracies.x == "sparsity":
            sparsities = [point.x for each in accuracies.series for point in each.points]
            set_up_sparsities(axes, sparsities, figure.get_figwidth() - 0.65)
        else:
            _set_up_costs(axes, accuracies)
        set_up_accuracies(axes, accuracies)
        place_legend(figure, axes, title)
    return figure


def _draw_front(axes: Axes, accuracies: Accuracies) -> None:
    """Draw the front under the points: a broad line, and a ring around each."""
    points = sorted(
        (point.x, point.y) for series in accuracies.series for point in series.points if point.front
    )
    axes.plot(
        *zip(*points, strict=True),
        color=LIGHT.pruned,
        linewidth=5,
        alpha=0.6,
        solid_capstyle="round",
        solid_joinstyle="round",
        label="Pareto front",
        gid="front",
        zorder=1.5,
    )
    axes.plot(
        *zip(*points, strict=True),
        color="none",
        marker="o",
        markersize=8,
        markeredgecolor=LIGHT.text,
        markeredgewidth=0.6,
        linestyle="none",
        zorder=3.5,
    )


def _set_up_costs(axes: Axes, accuracies: Accuracies) -> None:
    """Give the x axis its label and ticks, logarithmic where the costs differ much."""
    costs = [point.x for series in accuracies.series for point in series.points]
    low, high = min(costs), max(costs)
    is_share = accuracies.x == "macs"
    if low > 0 and high / low >= _WIDE:
        axes.set_xscale("log")
        ticks = [
            factor * 10.0**decade
            for decade in range(-9, 9)
            for factor in (1, 2, 5)
            if low / 1.15 <= factor * 10.0**decade <= high * 1.15
        ]
        if len(ticks) > 7:
            ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
        axes.set_xticks(ticks)
        axes.set_xticks([], minor=True)
        axes.set_xlim(low / 1.2, high * 1.2)
    axes.xaxis.set_major_formatter(lambda cost, _: percent(round(cost, 9)) if is_share else f"{cost:g}")
    axes.set_xlabel("multiply-accumulates left" if is_share else "latency (ms)")
