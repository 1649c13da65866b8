"""Lines of accuracies, the lines that they are compared with, and their axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpmt.report.figures.marks import line_look
from gpmt.report.figures.series import Accuracies
from gpmt.report.figures.sizes import percent, shortened
from gpmt.report.palette import LIGHT, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_series(axes: Axes, accuracies: Accuracies, *, faint: bool = False) -> None:
    """Draw each line with its error bars; `faint` lines lead the eye from point to point."""
    for number, series in enumerate(accuracies.series):
        points = series.points
        deviations = [point.std or 0 for point in points]
        look = line_look(style(number))
        places = [point.x for point in points], [point.y for point in points]
        if any(deviations):
            axes.errorbar(
                *places, yerr=deviations, fmt="none", ecolor=look["color"], elinewidth=0.9, zorder=2.8
            )
        axes.plot(
            *places,
            **look,
            linewidth=0.6 if faint else 1.3,
            label=shortened(series.label, 40),
            gid=f"series-{number}",
            zorder=3,
        )


def dead_points(axes: Axes, accuracies: Accuracies) -> None:
    """Make points hollow where a layer has no weight left."""
    places = [(point.x, point.y) for series in accuracies.series for point in series.points if point.dead]
    if places:
        axes.plot(
            *zip(*places, strict=True),
            color=LIGHT.background,
            marker="o",
            linestyle="none",
            markersize=2,
            markeredgewidth=0,
            gid="dead",
            zorder=4,
        )
        axes.plot(
            [],
            [],
            marker="o",
            color=LIGHT.background,
            markeredgecolor=LIGHT.muted,
            linestyle="none",
            label="a layer has no weight left",
        )


def draw_references(axes: Axes, accuracies: Accuracies) -> None:
    """Draw the accuracy of dense networks and that of guessing, where they are known."""
    if accuracies.dense is not None:
        axes.axhline(
            accuracies.dense.mean,
            color=LIGHT.dense,
            linestyle=(0, (6, 2)),
            linewidth=0.8,
            label="dense",
            gid="dense",
            zorder=2,
        )
    if accuracies.chance is not None:
        axes.axhline(
            accuracies.chance,
            color=LIGHT.muted,
            linestyle=(0, (1, 2)),
            linewidth=0.9,
            label="chance",
            gid="chance",
            zorder=2,
        )


def set_up_accuracies(axes: Axes, accuracies: Accuracies) -> None:
    """Give the y axis its label, its limits and ticks in percent."""
    # A mean and its deviation may reach beyond what an accuracy can be.
    values = [
        min(max(point.y + sign * (point.std or 0), 0.0), 1.0)
        for series in accuracies.series
        for point in series.points
        for sign in (-1, 1)
    ]
    values += [accuracies.dense.mean] if accuracies.dense else []
    values += [accuracies.chance] if accuracies.chance is not None else []
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), 0.002)
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_formatter(lambda share, _: percent(round(share, 6)))
    when = {"fine-tuned": " after fine-tuning", "pruned": " after pruning"}.get(accuracies.moment, "")
    axes.set_ylabel(f"top-1{when}")
