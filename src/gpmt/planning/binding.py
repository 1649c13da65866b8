"""A plan and the weights of a network: the same number stays in every block, the largest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from gpmt.core.keys.key_reader import KeyReader, count_above, thread_count
from gpmt.core.keys.keys import KeyFormat, KeySource, is_all_zero
from gpmt.core.scope.scope import Scope
from gpmt.core.selection.select import Cut, select
from gpmt.core.selection.threshold_search import check_keys
from gpmt.core.shards import whole
from gpmt.errors import PlanError, ScopeError
from gpmt.planning.case import Case
from gpmt.planning.items import items_of
from gpmt.planning.outcome import maker
from gpmt.planning.plan import Plan
from gpmt.planning.request import Request


def bind(plan: Plan, target: nn.Module | Mapping[str, Tensor]) -> Plan:
    """Return a plan with the weights of a network, which are checked; see `Plan.bound`."""
    if plan.scored:
        raise PlanError(
            "the plan was ranked by scores, which it does not hold, so it says nothing of other weights; plan with "
            "the scores again"
        )
    request = Request(
        [None if plan.pattern else 0],
        scope=[row.name for row in plan.tensors],
        allocation=plan.allocation,
        granularity=plan.granularity,
        seed=plan.seed,
        within="row" if plan.within == "row" else "network",
        pattern=plan.pattern,
    )
    try:
        found = request.find_scope(target)
    except ScopeError as error:
        raise PlanError(f"the plan does not fit this network: {error}") from None
    found = _in_order(plan, found)
    unit = request.unit
    items = items_of(found, unit, least=request.least(found), whole=not request.method.blocks)
    if [item.name for item in items] != [row.name for row in plan.blocks]:
        raise PlanError("the plan has other blocks than its tensors divide into; plan again")
    for item, row in zip(items, plan.blocks, strict=True):
        if row.kept < item.least:
            raise PlanError(
                f"{row.name} keeps {row.kept:,} weights in the plan, but has {item.least:,} norms, which must not "
                "become zero; let it keep more"
            )
    case = Case(request, found, items)
    sources, key_format = case.keys()
    if case.lengths:
        return _bind_runs(plan, case, sources, key_format)
    counts = [row.kept for row in plan.blocks]
    [selection] = select(sources, key_format, totals=[sum(counts)], floors=counts)
    rows = [
        replace(row, cut=cut, zero=is_all_zero(item.values))
        for row, cut, item in zip(plan.blocks, selection.cuts, items, strict=True)
    ]
    others = _others([row.cut for row in plan.blocks], sources, key_format)
    notes = []
    if others:
        more = f" and {len(others) - 1:,} more blocks" if len(others) > 1 else ""
        notes.append(
            f"these are other weights than the plan was made of (in {others[0]}{more}); every block keeps as many as "
            "in the plan"
        )
    return plan.replaced(
        rows, make=maker(found, items, sources, key_format, selection.cuts, unit=unit), notes=notes
    )


def _bind_runs(plan: Plan, case: Case, sources: Sequence[KeySource], key_format: KeyFormat) -> Plan:
    """Return a plan of rows, or of a pattern, with the weights of a network."""
    check_keys(KeyReader(sources, key_format, thread_count(sources)))
    kept = [row.kept * length // row.numel for row, length in zip(plan.blocks, case.lengths, strict=True)]
    make = maker(
        case.found,
        case.items,
        sources,
        key_format,
        (),
        unit=case.request.unit,
        lengths=case.lengths,
        kept_in_runs=kept,
    )
    rows = [
        replace(row, zero=is_all_zero(item.values)) for row, item in zip(plan.blocks, case.items, strict=True)
    ]
    return plan.replaced(rows, make=make)


def _in_order(plan: Plan, found: Scope) -> Scope:
    """Return the tensors of the plan, whole and in its order; raise `PlanError` where one does not fit."""
    tensors = {}
    for row in plan.tensors:
        tensor = found.tensors.get(row.name)
        if tensor is None:
            raise PlanError(f"{row.name} of the plan is not a weight of this network; plan for this one")
        if tuple(tensor.shape) != row.shape:
            raise PlanError(
                f"{row.name} has shape {list(tensor.shape)}, but {list(row.shape)} in the plan; plan for this network"
            )
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype != row.dtype:
            raise PlanError(
                f"{row.name} is {dtype}, but {row.dtype} in the plan, which ranks other values; convert it, or plan "
                "again"
            )
        tensors[row.name] = whole(tensor)
    blocks = {row.name: row.divided for row in plan.tensors if len(row.divided) > 1}
    return replace(found, tensors=tensors, blocks=blocks)


def _others(cuts: Sequence[Cut | None], sources: Sequence[KeySource], key_format: KeyFormat) -> list[str]:
    """Return the names of the blocks whose known cuts keep another number of these keys."""
    return [
        source.name
        for cut, source in zip(cuts, sources, strict=True)
        if cut is not None and not _fits(cut, source, key_format)
    ]


def _fits(cut: Cut, source: KeySource, key_format: KeyFormat) -> bool:
    if cut.key >= key_format.upper:
        above, equal = 0, 0
    elif cut.key < key_format.lower:
        above, equal = source.numel, 0
    else:
        above, equal = count_above(source, key_format, cut.key)
    return above + cut.ties == cut.kept and cut.ties <= equal
