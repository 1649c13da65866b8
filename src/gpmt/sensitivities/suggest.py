"""The plan that a sensitivity suggests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

from torch import Tensor, nn

from gpmt.core.budget.budget import Ratio, largest_sparsity, parse_sparsity
from gpmt.errors import BudgetError, CalibrationError
from gpmt.planning.decide import decide
from gpmt.planning.options import PlanOptions
from gpmt.planning.plan import Plan
from gpmt.planning.rows import BlockPlan
from gpmt.sensitivities.allocate import Cost, allocate
from gpmt.sensitivities.result import BlockCurve, Sensitivity

_OPTIONS = {"min_kept", "scope", "exclude", "blocks"}


def suggest(
    sensitivity: Sensitivity,
    target: nn.Module | Mapping[str, Tensor],
    sparsity: Ratio,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Return a plan; see `Sensitivity.suggest`."""
    wanted = parse_sparsity(sparsity)
    if odd := sorted(options.keys() - _OPTIONS):
        raise BudgetError(
            f"{odd[0]} has no meaning for a plan from a sensitivity, which shares out single weights; leave it out"
        )
    if not sensitivity.complete:
        left = len(sensitivity.blocks) - len(sensitivity.curves)
        raise CalibrationError(
            f"{left:,} of {len(sensitivity.blocks):,} blocks are still to be measured; go on with resume first"
        )
    base = decide(target, [wanted], **options)[0]
    curves = {curve.name: curve for curve in sensitivity.curves}
    sizes = {row.name: row.numel for row in base.blocks}
    for curve in sensitivity.curves:
        if sizes.get(curve.name) != curve.numel:
            raise CalibrationError(
                f"{curve.name} was measured with {curve.numel:,} weights, but is not a block of as many here; give "
                "the network, scope, exclude and blocks that were measured"
            )
    costs = [_cost(row, curves.get(row.name), sensitivity) for row in base.blocks]
    _check_room(base, costs, sensitivity)
    pruned = allocate(costs, base.pruned)
    return base.replaced([_shared(row, lost) for row, lost in zip(base.blocks, pruned, strict=True)])


def _cost(row: BlockPlan, curve: BlockCurve | None, sensitivity: Sensitivity) -> Cost:
    """Return what pruning a block costs, as far as it was measured."""
    if curve is None:
        return Cost(((0, 0.0),), 0)
    points = {curve.numel - cell.kept: cell.loss - sensitivity.dense.loss for cell in curve.cells}
    return Cost(((0, 0.0), *points.items()), min(max(points), row.numel - row.floor))


def _check_room(base: Plan, costs: list[Cost], sensitivity: Sensitivity) -> None:
    room = sum(cost.most for cost in costs)
    if room >= base.pruned:
        return
    others = len(base.blocks) - len(sensitivity.curves)
    limits = [f"none beyond the {100 * float(sensitivity.sparsities[-1]):g}% that was measured"]
    limits += [f"{others:,} not at all, as they were not measured"] if others else []
    limits += [f"and each with its minimum of {base.minimums}"] if base.minimums else []
    raise BudgetError(
        f"sparsity {float(base.sparsity):g} prunes {base.pruned:,} of {base.numel:,} weights, but the blocks may "
        f"lose {room:,} ({', '.join(limits)}); ask for a sparsity of at most "
        f"{largest_sparsity(base.numel, base.numel - room)}, or measure more"
    )


def _shared(row: BlockPlan, pruned: int) -> BlockPlan:
    kept = row.numel - pruned
    return replace(row, kept=kept, binds=0 < kept == row.floor < row.numel, cut=None)
