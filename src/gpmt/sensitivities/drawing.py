"""A sensitivity as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpmt.planning.plan import Plan
from gpmt.report.content.sensitivity import BlockSensitivity, SensitivityTable
from gpmt.report.figures.sensitivity import sensitivity_figure
from gpmt.sensitivities.result import Metric, Sensitivity

if TYPE_CHECKING:
    from gpmt.report.figures.paper_figure import PaperFigure


def draw(sensitivity: Sensitivity, metric: Metric, plan: Plan | None, width: str | float) -> PaperFigure:
    """Return the figure; see `Sensitivity.figure`."""
    return sensitivity_figure(table_of(sensitivity, metric, plan), width=width)


def table_of(sensitivity: Sensitivity, metric: Metric, plan: Plan | None) -> SensitivityTable:
    """Return what a figure shows of the blocks that are measured."""
    densities = {} if plan is None else {row.name: row.density for row in plan.blocks}
    return SensitivityTable(
        metric,
        sensitivity.value(sensitivity.dense, metric),
        tuple(map(float, sensitivity.sparsities)),
        sensitivity.samples,
        [
            BlockSensitivity(
                curve.name,
                curve.numel,
                tuple(sensitivity.value(cell, metric) for cell in curve.cells),
                densities.get(curve.name),
            )
            for curve in sensitivity.curves
        ],
    )
