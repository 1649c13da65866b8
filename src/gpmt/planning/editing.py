"""A plan whose blocks keep other numbers of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from gpmt.core.budget.budget import exact_fraction
from gpmt.core.budget.first_match import Named, first_matches
from gpmt.errors import PlanError
from gpmt.planning.plan import Plan
from gpmt.planning.rows import BlockPlan


def with_kept(plan: Plan, kept: Mapping[str, int | str]) -> Plan:
    """Return a plan in which the blocks that a pattern matches keep exactly so many weights; see `Plan.with_kept`."""
    if not isinstance(kept, Mapping) or not kept:
        raise PlanError(
            f'kept is {kept!r}, but must be a mapping from patterns to counts, such as {{"fc.weight": 100}}'
        )
    if plan.pattern is not None or plan.within == "row":
        what = f"pattern {plan.pattern}" if plan.pattern is not None else 'within="row"'
        raise PlanError(f"{what} says how many weights every block keeps; plan again with another sparsity")
    names = [
        Named(block.name, (row.name, *plan.aliases.get(row.name, ())), row.kind)
        for row in plan.tensors
        for block in row.blocks
    ]
    counts = list(kept.values())
    chosen = first_matches(list(kept), names, role="with_kept")
    return plan.replaced(
        [
            block if rule is None else _edited(block, counts[rule], plan.unit)
            for rule, block in zip(chosen, plan.blocks, strict=True)
        ]
    )


def _edited(block: BlockPlan, kept: int | str, unit: str) -> BlockPlan:
    count = _count(block, kept, unit)
    if count == block.kept:
        return block
    return replace(block, kept=count, floor=min(block.floor, count), binds=False, cut=None)


def _count(block: BlockPlan, kept: int | str, unit: str) -> int:
    if isinstance(kept, str) and kept.strip().endswith("%"):
        share = exact_fraction(kept, what=f"the share of {block.name}")
        count = math.ceil(share * block.numel) if 0 <= share <= 1 else -1
    elif isinstance(kept, int) and not isinstance(kept, bool):
        count = kept
    else:
        raise PlanError(f'{block.name} is to keep {kept!r}, but give a whole number, or a share such as "5%"')
    if not 0 <= count <= block.numel:
        raise PlanError(f"{block.name} is to keep {kept} {unit}, but has {block.numel:,} of them")
    return count
