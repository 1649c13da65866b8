"""A plan on the terminal: its tensors, its groups, and what lies outside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gpmt.report.fitting import Column, draw_table
from gpmt.report.tables import Macs, plan_table

if TYPE_CHECKING:  # PyTorch is not needed to draw what others counted
    from gpmt.planning.plan import Plan

_MOST_GROUPS = 20


def print_plan(plan: Plan, *, macs: Macs | None = None, blocks: bool = False, out: Console) -> None:
    """Print a plan: a line for each tensor, or each block, then its groups, its totals, and what is to be known."""
    out.print(plan_table(plan, macs=macs, blocks=blocks, out=out))
    if len(plan.groups) > 1 and (blocks or len(plan.groups) <= _MOST_GROUPS):
        out.print(group_table(plan, out=out))
    out.print(plan.summary())
    if not plan.coverage.complete:
        for line in plan.coverage.lines(options=True):
            out.print(line)
    out.print(str(plan.judged))
    for note in plan.notes:
        out.print(f"note: {note}")


def group_table(plan: Plan, *, out: Console) -> Table:
    """Draw the groups of a plan: the sparsity asked for in each, and the threshold that it has by itself."""
    groups = plan.groups
    columns = [
        Column("sparsity", [f"{float(group.sparsity):.4%}" for group in groups]),
        Column("blocks", [f"{len(group.blocks):,}" for group in groups], f"{len(plan.blocks):,}", spare=1),
        Column(plan.unit, [f"{group.numel:,}" for group in groups], f"{plan.numel:,}", spare=10),
        Column("kept", [f"{group.kept:,}" for group in groups], f"{plan.kept:,}"),
        Column(
            "threshold",
            ["–" if group.threshold is None else f"{group.threshold:.6g}" for group in groups],
            spare=11,
        ),
    ]
    names = Column("group", [group.label or "all" for group in groups], "total", "left")
    return draw_table(names, columns, out.width)
