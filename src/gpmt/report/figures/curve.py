"""Accuracy against sparsity, with the deviation over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpmt.report.figures.accuracy_axis import dead_points, draw_references, draw_series, set_up_accuracies
from gpmt.report.figures.legends import place_legend
from gpmt.report.figures.series import Accuracies
from gpmt.report.figures.sizes import new_figure
from gpmt.report.figures.sparsity_axis import set_up_sparsities

if TYPE_CHECKING:
    from gpmt.report.figures.paper_figure import PaperFigure


def curve_figure(accuracies: Accuracies, *, width: str | float = "column", title: str = "") -> PaperFigure:
    """Draw top-1 accuracy against sparsity: a line for each method, bars for the deviation over seeds.

    Hollow points have a layer without any weight; the dense accuracy and that of guessing are lines where known.

    Args:
        accuracies: what `accuracies_of` returns for "sparsity".
        width: "column" (8.5 cm), "page" (17.5 cm), or cm.
        title: above the figure; none by default.
    """
    with new_figure(width, 5.6) as figure:
        axes = figure.subplots()
        draw_series(axes, accuracies)
        dead_points(axes, accuracies)
        draw_references(axes, accuracies)
        sparsities = [point.x for each in accuracies.series for point in each.points]
        set_up_sparsities(axes, sparsities, figure.get_figwidth() - 0.65)
        set_up_accuracies(axes, accuracies)
        place_legend(figure, axes, title)
    return figure
