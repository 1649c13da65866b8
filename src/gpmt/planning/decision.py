"""Where the blocks of a network are cut for one sparsity; a plan only where one is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Unpack

from torch import Tensor

from gpmt.core.keys.keys import KeyFormat, KeySource, MagnitudeKeys, key_format_of
from gpmt.core.scope.scope import Scope
from gpmt.core.selection.select import Cut, select
from gpmt.planning.case import Case
from gpmt.planning.groups import Group
from gpmt.planning.items import Item, items_of
from gpmt.planning.options import PlanOptions
from gpmt.planning.outcome import plan_of
from gpmt.planning.plan import Plan
from gpmt.planning.request import Request


@dataclass(frozen=True, eq=False)
class Decision:
    """The cuts of all blocks.

    Attributes:
        case: the request, and the blocks that it is about.
        sources, key_format: what ranks the weights of each block.
        cuts: where each block is cut.
        groups: the blocks that share a budget.
        keys: the threshold of each group, where it has one.
        scaled: whether these are thresholds of magnitudes times the factor of their tensor.
    """

    case: Case
    sources: Sequence[KeySource]
    key_format: KeyFormat
    cuts: Sequence[Cut]
    groups: Sequence[Group]
    keys: Sequence[int | None]
    scaled: bool = False

    @property
    def items(self) -> Sequence[Item]:
        """The blocks."""
        return self.case.items

    def may_be_short(self) -> bool:
        """Whether a plan may have something to warn of: a block that keeps fewer weights than it has outputs."""
        return any(
            cut.kept < max(1, item.shape[item.axes.output] if item.shape else 1)
            for item, cut in zip(self.items, self.cuts, strict=True)
        )

    def plan(self) -> Plan:
        """Return the plan, which makes masks of the weights as they are now."""
        return plan_of(
            self.case.found,
            self.items,
            self.sources,
            self.key_format,
            self.cuts,
            scored=self.case.scored,
            groups=self.groups,
            keys=[None] * len(self.keys) if self.scaled else self.keys,
            floors=self.case.floors,
            minimums=self.case.minimums,
            allocation=self.case.request.allocation,
            unit=self.case.request.unit,
            seed=self.case.request.seed,
            within=self.case.request.within,
        )


def decisions(case: Case) -> list[Decision]:
    """Return where the blocks are cut, one decision for each sparsity of the request; they share their passes.

    Raises `WeightsError` for weights that are not finite.
    """
    sources, key_format = case.keys()
    found: dict[int, Decision] = {}
    for numbers in _sharing_groups(case.divisions):
        divisions = [case.divisions[number] for number in numbers]
        cuts: list[list[Any]] = [[None] * len(case.items) for _ in numbers]
        keys: list[list[int | None]] = [[] for _ in numbers]
        for groups in zip(*divisions, strict=True):
            selections = case.select(groups[0], [group.sparsity for group in groups], sources, key_format)
            for row, thresholds, selection in zip(cuts, keys, selections, strict=True):
                thresholds.append(selection.key)
                for place, cut in zip(groups[0].places, selection.cuts, strict=True):
                    row[place] = cut
        for number, division, row, thresholds in zip(numbers, divisions, cuts, keys, strict=True):
            if not case.request.method.global_threshold:
                thresholds = [None] * len(division)
            found[number] = Decision(case, sources, key_format, row, division, thresholds)
    return [found[number] for number in range(len(found))]


def decide_cuts(
    found: Scope,
    sparsity: Fraction,
    options: PlanOptions,
    *,
    factors: Mapping[str, float] | None = None,
) -> Decision:
    """Return where the blocks of a scope are cut by the magnitudes of its tensors, which are whole.

    `factors` multiply the magnitudes of each tensor for the comparison between tensors. The cuts are those of the
    magnitudes all the same; only the keys of the groups are those of the products.

    Raises `BudgetError` for a sparsity without room for the floors, `WeightsError` for weights that are not finite.
    """
    if factors is None:
        return _decide(found, sparsity, **options)
    scores = {name: _times(tensor, factors[name]) for name, tensor in found.tensors.items()}
    scored = _decide(found, sparsity, **PlanOptions(**{**options, "scores": scores}))
    items = items_of(found, scored.case.request.unit, least={}, whole=not scored.case.request.method.blocks)
    key_format = key_format_of(item.values for item in items)
    sources = [MagnitudeKeys(item.name, item.values, key_format) for item in items]
    counts = [cut.kept for cut in scored.cuts]
    [selection] = select(sources, key_format, totals=[sum(counts)], floors=counts)
    cuts = [replace(cut, binds=old.binds) for cut, old in zip(selection.cuts, scored.cuts, strict=True)]
    case = Case(scored.case.request, found, items)
    return Decision(case, sources, key_format, cuts, scored.groups, scored.keys, scaled=True)


def _times(tensor: Tensor, factor: float) -> Tensor:
    wide = tensor.detach().abs()
    return (wide if wide.element_size() > 2 else wide.float()) * factor


def _decide(found: Scope, sparsity: Fraction, **options: Unpack[PlanOptions]) -> Decision:
    request = Request([sparsity], **options)
    scores: Any = request.scores
    items = items_of(found, request.unit, least={}, scores=scores, whole=not request.method.blocks)
    [decision] = decisions(Case(request, found, items, scored=scores is not None))
    return decision


def _sharing_groups(divisions: Sequence[Sequence[Group]]) -> list[list[int]]:
    """Return the numbers of the divisions that have the same groups, which then share the passes over the weights."""
    alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for number, division in enumerate(divisions):
        alike.setdefault(tuple(group.places for group in division), []).append(number)
    return list(alike.values())
