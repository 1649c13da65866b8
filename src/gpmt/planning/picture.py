"""A plan as a figure, and as a table for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpmt.html_tables import Share, html_table
from gpmt.report.figures.density import Block, Density, density_figure

if TYPE_CHECKING:
    from gpmt.planning.plan import Plan
    from gpmt.report.figures.paper_figure import PaperFigure


def figure_of(plan: Plan, *, width: str | float, title: str) -> PaperFigure:
    """Draw the density of every block."""
    blocks = tuple(
        Block(
            block.name,
            block.numel,
            block.kept,
            block.density,
            block.floor / block.numel,
            block.binds,
            block.kept == 0,
        )
        for block in plan.blocks
        if block.numel
    )
    return density_figure(
        [Density("plan", plan.kept / plan.numel, plan.unit, blocks)], width=width, title=title
    )


def html_of(plan: Plan) -> str:
    """Return the table of a plan: a line for each block, with its floor and what decides."""
    rows = [
        [
            block.name,
            "×".join(map(str, block.shape)),
            block.numel,
            block.kept,
            Share(block.density),
            block.floor,
            "no weight left" if block.numel and not block.kept else "floor" if block.binds else "",
        ]
        for block in plan.blocks
    ]
    return html_table(
        ["block", "shape", plan.unit, "kept", "density", "floor", "decided by"],
        rows,
        title=plan.summary(),
        notes=[*plan.warnings, *([] if plan.coverage.complete else plan.coverage.lines())],
        total=["total", "", plan.numel, plan.kept, Share(plan.kept / plan.numel), "", ""],
    )
