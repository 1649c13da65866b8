"""From what was decided to a plan: its rows, and the masks on request."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gpmt.core.blocks.blocks import WHOLE
from gpmt.core.budget.minimums import Minimums
from gpmt.core.keys.keys import KeyFormat, KeySource, MagnitudeKeys, is_all_zero, key_value
from gpmt.core.scope.scope import Scope
from gpmt.core.selection.select import Cut
from gpmt.core.units.unit import Unit
from gpmt.planning.groups import Group
from gpmt.planning.items import Item
from gpmt.planning.macs_budget import MacsPlan
from gpmt.planning.mask_maker import MaskMaker
from gpmt.planning.packing import MaskPacker
from gpmt.planning.plan import Plan
from gpmt.planning.rows import BlockPlan, GroupPlan, TensorPlan
from gpmt.planning.run_packing import RunPacker


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
    pattern: str | None = None,
    scored: bool = False,
    macs: MacsPlan | None = None,
    lengths: Sequence[int] = (),
    kept_in_runs: Sequence[int] = (),
) -> Plan:
    """Return the plan of blocks that are cut so; `keys` are the thresholds of the groups, where they have one.

    Where weights are compared within runs, those of each block have `lengths` and keep `kept_in_runs`, and the cuts
    say only how many stay in all.
    """
    rows = [
        BlockPlan(
            item.name,
            item.shape,
            item.numel,
            cut.kept,
            floor,
            cut.binds,
            zero=not scored and _is_zero(item.values, source, cut),
            cut=None if scored or lengths or macs is not None else cut,
        )
        for item, source, cut, floor in zip(items, sources, cuts, floors, strict=True)
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
        pattern=pattern,
        aliases=scope.aliases,
        judged=scope.judged,
        coverage=scope.coverage,
        scored=scored,
        macs=macs,
        make=maker(
            scope,
            items,
            sources,
            key_format,
            cuts,
            unit=unit,
            scored=scored,
            lengths=lengths,
            kept_in_runs=kept_in_runs,
        ),
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
    lengths: Sequence[int] = (),
    kept_in_runs: Sequence[int] = (),
) -> MaskMaker:
    """Return what makes the masks of blocks that are cut so."""
    tensors = {item.name: item.values if scored else scope.tensors[item.tensor] for item in items}
    if lengths:
        packer: MaskPacker = RunPacker(tensors, sources, key_format, lengths=lengths, kept=kept_in_runs)
    else:
        packer = MaskPacker(tensors, sources, key_format, list(cuts))
    return MaskMaker(scope, items, unit, packer)


def _is_zero(values: Tensor, source: KeySource, cut: Cut) -> bool:
    """Whether a block is all zero; one that keeps something above the key of zero is known not to be."""
    if type(source) is MagnitudeKeys and cut.kept and cut.key > 0:
        return False
    return is_all_zero(values)
