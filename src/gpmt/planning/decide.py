"""Decide which weights to prune: from a target and a request to plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Unpack

from torch import Tensor, nn

from gpmt.core.budget.budget import pruned_count
from gpmt.core.budget.minimum import is_automatic
from gpmt.core.budget.minimums import Minimums
from gpmt.core.keys.key_reader import KeyReader, thread_count
from gpmt.core.keys.keys import SCORE64, KeyFormat, KeySource
from gpmt.core.missing_data import check_has_data
from gpmt.core.selection.select import Cut
from gpmt.core.selection.threshold_search import check_keys
from gpmt.core.shards import whole
from gpmt.errors import BudgetError
from gpmt.planning.case import Case
from gpmt.planning.decision import decisions
from gpmt.planning.groups import Budget, Group
from gpmt.planning.items import items_of
from gpmt.planning.macs_budget import MacsPlan, described, select_by_both, select_by_macs
from gpmt.planning.options import PlanOptions
from gpmt.planning.outcome import plan_of
from gpmt.planning.plan import Plan
from gpmt.planning.request import Request, Target
from gpmt.planning.scoring import scores_of


def decide(target: Target, sparsities: Sequence[Any], **options: Unpack[PlanOptions]) -> list[Plan]:
    """Return one plan for each sparsity, as `plan` does, but leave their warnings to the caller."""
    request = Request(sparsities, **options)
    if is_automatic(request.min_kept) and len(request.budgets) > 1:  # each has a minimum of its own
        return [plan for sparsity in sparsities for plan in decide(target, [sparsity], **options)]
    _count_macs(request, target)
    found = request.find_scope(target)
    found = replace(found, tensors={name: whole(tensor) for name, tensor in found.tensors.items()})
    scores = None if request.scores is None else scores_of(request.scores, target, found)
    items = items_of(
        found, request.unit, least=request.least(found), scores=scores, whole=not request.method.blocks
    )
    case = Case(request, found, items, scored=scores is not None)
    if request.max_macs is not None:
        return [
            _within_macs(case, value, budget)
            for value, budget in zip(sparsities, request.budgets, strict=True)
        ]
    if case.lengths:
        sources, key_format = case.keys()
        check_keys(KeyReader(sources, key_format, thread_count(sources)))
        return [_in_runs(case, sources, key_format, division) for division in case.divisions]
    return [decision.plan() for decision in decisions(case)]


def _in_runs(
    case: Case, sources: Sequence[KeySource], key_format: KeyFormat, groups: Sequence[Group]
) -> Plan:
    """Return the plan of blocks of whose rows, or every M inputs, each keeps its share."""
    chosen: dict[int, int] = {}
    for group in groups:
        chosen |= case.kept_in_runs(group)
    kept = [chosen[place] for place in range(len(case.items))]
    counts = [
        item.numel // length * each for item, length, each in zip(case.items, case.lengths, kept, strict=True)
    ]
    return _plan(
        case,
        sources,
        key_format,
        [Cut(0, 0, count, binds=False) for count in counts],
        groups=groups,
        keys=[None] * len(groups),
        kept_in_runs=kept,
    )


def _within_macs(case: Case, sparsity: Any, budget: Budget) -> Plan:
    """Return the plan of a budget in MACs, with a sparsity or without."""
    problem = case.macs_problem()
    numel = sum(problem.sizes)
    if sparsity is None:
        choice = select_by_macs(problem)
        wanted = Fraction(numel - sum(cut.kept for cut in choice.selection.cuts), numel)
    else:
        wanted = budget.rules[0][1]
        choice = select_by_both(problem, numel - pruned_count(wanted, numel))
    group = Group(None, wanted, tuple(range(len(case.items))))
    return _plan(
        case,
        choice.sources,
        SCORE64,
        choice.selection.cuts,
        groups=[group],
        keys=[None],
        macs=described(problem, choice),
    )


def _plan(
    case: Case,
    sources: Sequence[KeySource],
    key_format: KeyFormat,
    cuts: Sequence[Cut],
    *,
    groups: Sequence[Group],
    keys: Sequence[int | None],
    macs: MacsPlan | None = None,
    kept_in_runs: Sequence[int] = (),
) -> Plan:
    pattern = case.request.pattern
    return plan_of(
        case.found,
        case.items,
        sources,
        key_format,
        cuts,
        scored=case.scored,
        groups=groups,
        keys=keys,
        floors=case.floors,
        minimums=case.minimums,
        allocation=case.request.allocation,
        unit=case.request.unit,
        seed=case.request.seed,
        within=case.request.within,
        pattern=None if pattern is None else str(pattern),
        macs=macs,
        lengths=case.lengths,
        kept_in_runs=kept_in_runs,
    )


def check_request(target: Target, *, sparsity: Any, **options: Unpack[PlanOptions]) -> Minimums:
    """Raise what `plan` would for this request, as far as names and shapes tell; no weight is read or sent.

    Returns the minimum in numbers.
    """
    request = Request([sparsity], **options)
    _count_macs(request, target)
    found = request.find_scope(target)
    check_has_data(found.tensors)
    least, whole_tensors = request.least(found), not request.method.blocks
    case = Case(request, found, items_of(found, request.unit, least=least, whole=whole_tensors, read=False))
    if request.max_macs is not None:
        problem = case.macs_problem()
        numel = sum(problem.sizes)
        problem.check(
            None if sparsity is None else numel - pruned_count(request.budgets[0].rules[0][1], numel)
        )
    return case.minimums


def _count_macs(request: Request, target: Target) -> None:
    """Replace the shape of an input, or an input, by the MACs that the network takes for it."""
    if request.macs is None or (isinstance(request.macs, Mapping) and not _is_batch(request.macs)):
        return
    if not isinstance(target, nn.Module):
        raise BudgetError(
            "macs is an input, but no network is known to count the MACs with; give what gpmt.macs.count_macs returns"
        )
    request.macs = request.count_macs(target, request.macs)


def _is_batch(macs: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in macs.values())
