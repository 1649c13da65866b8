"""Decide which weights to prune: from a target and a request to plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Unpack

from torch import Tensor, nn

from gpmt import allocations
from gpmt.core.allocation import Allocation, Problem
from gpmt.core.blocks import BlockRule
from gpmt.core.budget import check_feasible
from gpmt.core.keys import KeyFormat, KeySource
from gpmt.core.minimums import Minimums, MinKept
from gpmt.core.missing_data import check_has_data
from gpmt.core.patterns import Patterns
from gpmt.core.reparametrised import KeysKeeping
from gpmt.core.scope import Scope, find_scope
from gpmt.core.select import Cut, Selection
from gpmt.core.shards import whole
from gpmt.core.units import Unit, unit_of
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.groups import Budget, Group, Within, check_within, divide
from gpmt.planning.items import Item, items_of, named
from gpmt.planning.options import PlanOptions
from gpmt.planning.outcome import plan_of
from gpmt.planning.plan import Plan

Target = nn.Module | Mapping[str, Tensor]


class Request:
    """The options of `gpmt.plan`, checked as far as they can be without a network."""

    def __init__(
        self,
        sparsities: Sequence[Any],
        *,
        scope: Patterns | None = None,
        exclude: Patterns | None = (),
        blocks: Mapping[str, BlockRule] | None = None,
        min_kept: MinKept = 0,
        within: Within = "network",
        allocation: str = "exact",
        granularity: str = "weight",
        seed: int = 0,
    ) -> None:
        self.budgets = [Budget.parse(value) for value in sparsities]
        self.unit = unit_of(granularity)
        self.allocation, self.method = allocation, _find_allocation(allocation, self.unit)
        check_within(within)
        self.within: Within = within
        self.min_kept, self.seed = min_kept, seed
        Minimums.parse(min_kept, total=0, unit=self.unit.plural)
        self._scope, self._exclude, self._blocks = scope, exclude, blocks

    def find_scope(self, target: Target) -> Scope:
        """Return the scope; tensors that processes share are in it as they are."""
        return find_scope(target, scope=self._scope, exclude=self._exclude, blocks=self._blocks, shared=True)

    def least(self, found: Scope) -> dict[str, int]:
        """Return how many weights each tensor with norms keeps so that none of the norms becomes zero."""
        if found.effective and self.unit.name != "weight":
            raise ScopeError(
                f"{next(iter(found.effective))} is reparametrised, and whole {self.unit.plural} are pruned of plain "
                "weights only; exclude it, or make it plain"
            )
        return {name: how.norms(found.tensors[name].shape) for name, how in found.effective.items()}


class Case:
    """A request on one network: the blocks, their floors, and the groups of every budget.

    Raises `BudgetError` where floors do not fit into a budget, before any weight is read.
    """

    def __init__(self, request: Request, found: Scope, items: Sequence[Item]) -> None:
        self.request, self.found, self.items = request, found, items
        sizes = [item.numel for item in items]
        if not any(sizes):
            raise ScopeError("there is no weight to prune: the scope holds no tensor with elements")
        names = named(items, found)
        self.minimums = Minimums.parse(request.min_kept, total=sum(sizes), unit=request.unit.plural)
        floors = self.minimums.floors(names, sizes)
        self.floors = [max(floor, item.least) for floor, item in zip(floors, items, strict=True)]
        self.divisions = [divide(items, names, budget, request.within) for budget in request.budgets]
        for group in (group for division in self.divisions for group in division):
            self._check(group)

    def _check(self, group: Group) -> None:
        members = [self.items[place] for place in group.places]
        whole_tensors = all(item.name == item.tensor for item in members)
        norms = (
            ", and of one for each norm of the reparametrised," if any(item.least for item in members) else ""
        )
        check_feasible(
            {item.name: self.floors[place] for item, place in zip(members, group.places, strict=True)},
            numel=sum(item.numel for item in members),
            sparsity=group.sparsity,
            minimum=str(self.minimums),
            where=("tensors" if whole_tensors else "blocks") + norms,
            unit=self.request.unit.plural,
            of=group.of,
        )

    def keys(self) -> tuple[list[KeySource], KeyFormat]:
        """Return the keys of every block."""
        values = {item.name: item.values for item in self.items}
        sources, key_format = self.request.method.keys(values, seed=self.request.seed)
        effective = self.found.effective
        return [
            KeysKeeping(source, effective[item.tensor].largest(item.values), key_format)
            if item.tensor in effective
            else source
            for source, item in zip(sources, self.items, strict=True)
        ], key_format

    def select(
        self,
        group: Group,
        sparsities: Sequence[Fraction],
        sources: Sequence[KeySource],
        key_format: KeyFormat,
    ) -> list[Selection]:
        """Decide where the blocks of one group are cut, for several sparsities."""
        members = [self.items[place] for place in group.places]
        problem = Problem(
            {item.name: item.values for item in members},
            [item.shape for item in members],
            sparsities,
            [self.floors[place] for place in group.places],
            self.minimums.one,
        )
        selections = self.request.method.select(
            problem, [sources[place] for place in group.places], key_format
        )
        for selection in selections:
            for item, cut in zip(members, selection.cuts, strict=True):
                if cut.kept < item.least:
                    raise BudgetError(
                        f"{item.name} would keep {cut.kept:,} weights, but has {item.least:,} norms, which must not "
                        'become zero; use the allocation "exact", or exclude it'
                    )
        return selections


def decide(target: Target, sparsities: Sequence[Any], **options: Unpack[PlanOptions]) -> list[Plan]:
    """Return one plan for each sparsity, as `plan` does, but leave their warnings to the caller."""
    request = Request(sparsities, **options)
    found = request.find_scope(target)
    found = replace(found, tensors={name: whole(tensor) for name, tensor in found.tensors.items()})
    items = items_of(found, request.unit, least=request.least(found), whole=not request.method.blocks)
    case = Case(request, found, items)
    sources, key_format = case.keys()
    plans: dict[int, Plan] = {}
    for numbers in _sharing_groups(case.divisions):
        divisions = [case.divisions[number] for number in numbers]
        cuts: list[list[Cut | None]] = [[None] * len(items) for _ in numbers]
        keys: list[list[int | None]] = [[] for _ in numbers]
        for groups in zip(*divisions, strict=True):
            selections = case.select(groups[0], [group.sparsity for group in groups], sources, key_format)
            for row, thresholds, selection in zip(cuts, keys, selections, strict=True):
                thresholds.append(selection.key)
                for place, cut in zip(groups[0].places, selection.cuts, strict=True):
                    row[place] = cut
        for number, division, row, thresholds in zip(numbers, divisions, cuts, keys, strict=True):
            plans[number] = plan_of(
                found,
                items,
                sources,
                key_format,
                [cut for cut in row if cut is not None],
                groups=division,
                keys=thresholds if request.method.global_threshold else [None] * len(division),
                floors=case.floors,
                minimums=case.minimums,
                allocation=request.allocation,
                unit=request.unit,
                seed=request.seed,
                within=request.within,
            )
    return [plans[number] for number in range(len(plans))]


def check_request(target: Target, *, sparsity: Any, **options: Unpack[PlanOptions]) -> None:
    """Raise what `plan` would for this request, as far as names and shapes tell; no weight is read or sent."""
    request = Request([sparsity], **options)
    found = request.find_scope(target)
    check_has_data(found.tensors)
    least, whole_tensors = request.least(found), not request.method.blocks
    Case(request, found, items_of(found, request.unit, least=least, whole=whole_tensors, read=False))


def _sharing_groups(divisions: Sequence[Sequence[Group]]) -> list[list[int]]:
    """Return the numbers of the divisions that have the same groups, which then share the passes over the weights."""
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for number, division in enumerate(divisions):
        alike.setdefault(tuple(group.places for group in division), []).append(number)
    return list(alike.values())


def _find_allocation(name: str, unit: Unit) -> Allocation:
    """Return an allocation; refuse one that cannot share what the granularity counts."""
    found = allocations.find(name)
    if unit.name != "weight" and not found.columns:
        raise BudgetError(
            f'allocation "{name}" shares single weights only, so it has no meaning for granularity "{unit.name}"; '
            'use "exact" or "uniform"'
        )
    return found
