"""A plan on the terminal: its tensors, its groups, and what lies outside of it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from gpmt.terminal.fitting import Column, draw_table, fold
from gpmt.terminal.tables import Macs, density_curve, plan_table

if TYPE_CHECKING:  # PyTorch is not needed to draw what others counted
    from gpmt.planning.plan import Plan
    from gpmt.planning.what_if import WhatIf

_MOST_GROUPS = 20
_NARROWEST = 12
"""Names of blocks are folded to no less."""


def print_plan(plan: Plan, *, macs: Macs | None = None, blocks: bool = False, out: Console) -> None:
    """Print a plan: a line for each tensor, or each block, then its groups, its totals, and what is to be known."""
    out.print(plan_table(plan, macs=macs, blocks=blocks, out=out))
    rows = plan.blocks if blocks else plan.tensors
    if line := density_curve([row.kept for row in rows], [row.numel for row in rows], out=out):
        out.print(line)
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


def print_what_if(table: WhatIf, *, out: Console) -> None:
    """Print what would come of several sparsities, and what is to be known of them."""
    out.print(what_if_table(table, out=out))
    plan = table.rows[0].plan
    blocks = "tensors" if len(plan.blocks) == len(plan.tensors) else "blocks"
    out.print(
        f"of {plan.numel:,} {plan.unit} in {len(plan.blocks):,} {blocks}; min_kept is the smallest with which each "
        f"keeps {_percent(table.at_least)} of its own"
        + (f"; minimum {plan.minimums}, which binds where it says so" if plan.minimums else "")
    )
    if table.dense_macs is not None:
        out.print(f"MACs with all weights: {table.dense_macs:,}")
    if table.rows[0].effective is not None:
        out.print("the effective sparsity counts kept weights on no path from input to output as pruned")
    if not plan.coverage.complete:
        for line in plan.coverage.lines(options=True):
            out.print(line)
    out.print(str(plan.judged))


def what_if_table(table: WhatIf, *, out: Console) -> Table:
    """Draw a line for each sparsity: what is kept, which blocks are empty, and the minimum that would be enough."""
    rows = table.rows
    plans = [row.plan for row in rows]
    blocks = "tensors" if len(plans[0].blocks) == len(plans[0].tensors) else "blocks"
    columns = [Column("kept", [f"{plan.kept:,}" for plan in plans], spare=12)]
    if not plans[0].coverage.complete:
        shares = [f"{plan.network_sparsity:.2%}" for plan in plans]
        columns.append(Column("whole\nnetwork", shares))
    if rows[0].effective is not None:
        columns.append(Column("effec-\ntive", [f"{row.effective or 0:.2%}" for row in rows]))
    if table.dense_macs is not None:
        dense = max(table.dense_macs, 1)
        columns.append(Column("MACs\nleft", [f"{(row.macs or 0) / dense:.2%}" for row in rows]))
    if plans[0].minimums:
        columns.append(Column("binds", [f"{row.binding:,}" for row in rows]))
    columns.append(
        Column(
            f"min_kept\nfor {_percent(table.at_least)}",
            ["–" if row.min_kept is None else f"{row.min_kept:,}" for row in rows],
        )
    )
    columns.append(Column(f"empty\n{blocks}", [f"{len(row.empty):,}" for row in rows]))
    names = Column("sparsity", [_percent(row.sparsity) for row in rows], justify="right")
    # The box takes a cell at each edge, and two more lie between columns.
    room = out.width - 2 - names.width - sum(2 + column.width for column in columns) - 2
    first = [fold(row.empty[0], max(room, _NARROWEST)) if row.empty else "" for row in rows]
    columns.append(Column("first to be empty", first, justify="left", spare=11))
    return draw_table(names, columns if any(first) else columns[:-1], out.width)


def _percent(share: Fraction) -> str:
    return f"{float(100 * share):.6g}%"
