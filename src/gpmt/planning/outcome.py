"""From what was decided to a plan: its rows, and the masks on request."""

from __future__ import annotations

from collections.abc import Sequence

from gpmt.core.blocks import WHOLE
from gpmt.core.keys import KeyFormat, KeySource, is_all_zero, key_value
from gpmt.core.minimums import Minimums
from gpmt.core.scope import Scope
from gpmt.core.select import Cut
from gpmt.core.units.unit import Unit
from gpmt.planning.groups import Group
from gpmt.planning.items import Item
from gpmt.planning.macs_budget import MacsPlan
from gpmt.planning.mask_maker import MaskMaker
from gpmt.planning.packing import MaskPacker
from gpmt.planning.plan import Plan
from gpmt.planning.rows import BlockPlan, GroupPlan, TensorPlan


def plan_of(
    scope: Scope,
    items: Sequence[Item],
    sources: Sequence[KeySource],
    key_format: KeyFormat,
    cuts: Sequence[Cut],
    *,
    groups: Sequence[Group],
    keys: Sequence[int | None],
    floors: Sequence[int],
    minimums: Minimums,
    allocation: str,
    unit: Unit,
    seed: int,
    within: str,
    scored: bool = False,
    macs: MacsPlan | None = None,
) -> Plan:
    """Return the plan of blocks that are cut so; `keys` are the thresholds of the groups, where they have one."""
    rows = [
        BlockPlan(
            item.name,
            item.shape,
            item.numel,
            cut.kept,
            floor,
            cut.binds,
            zero=not scored and is_all_zero(item.values),
            cut=None if scored or macs is not None else cut,
        )
        for item, cut, floor in zip(items, cuts, floors, strict=True)
    ]
    members: dict[str, list[BlockPlan]] = {name: [] for name in scope.tensors}
    for item, row in zip(items, rows, strict=True):
        members[item.tensor].append(row)
    tensors = [
        TensorPlan(
            name,
            scope.kinds[name],
            tuple(tensor.shape),
            tuple(members[name]),
            dtype=str(tensor.dtype).removeprefix("torch."),
            divided=scope.blocks.get(name, WHOLE) if len(members[name]) > 1 else WHOLE,
            end=scope.ends.get(name),
            axes=scope.axes[name],
        )
        for name, tensor in scope.tensors.items()
    ]
    return Plan(
        tensors,
        [
            GroupPlan(
                label=group.label,
                sparsity=group.sparsity,
                blocks=tuple(rows[place] for place in group.places),
                threshold=None if key is None else key_value(key, key_format),
            )
            for group, key in zip(groups, keys, strict=True)
        ],
        minimums=minimums,
        allocation=allocation,
        unit=unit,
        seed=seed,
        within=within,
        aliases=scope.aliases,
        judged=scope.judged,
        coverage=scope.coverage,
        scored=scored,
        macs=macs,
        make=maker(scope, items, sources, key_format, cuts, unit=unit, scored=scored),
    )


def maker(
    scope: Scope,
    items: Sequence[Item],
    sources: Sequence[KeySource],
    key_format: KeyFormat,
    cuts: Sequence[Cut],
    *,
    unit: Unit,
    scored: bool = False,
) -> MaskMaker:
    """Return what makes the masks of blocks that are cut so."""
    tensors = {item.name: item.values if scored else scope.tensors[item.tensor] for item in items}
    return MaskMaker(scope, items, unit, MaskPacker(tensors, sources, key_format, list(cuts)))
