"""What is asked for: the options of `gpmt.plan`, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from gpmt import allocations
from gpmt.core.blocks.blocks import BlockRule
from gpmt.core.budget.minimum import is_automatic
from gpmt.core.budget.minimums import Minimums, MinKept
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import Scope, find_scope
from gpmt.core.selection.allocation import Allocation
from gpmt.core.selection.nm import NM
from gpmt.core.units.in_runs import InRuns
from gpmt.core.units.registry import unit_of
from gpmt.core.units.unit import Unit
from gpmt.errors import BudgetError, ScopeError
from gpmt.macs import count_macs
from gpmt.planning.groups import Budget, Within, check_within
from gpmt.planning.macs_budget import Macs, MaxMacs, parse_max_macs
from gpmt.planning.scoring import Scores

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
        pattern: str | None = None,
        scores: Scores | None = None,
        max_macs: MaxMacs | None = None,
        macs: Macs | None = None,
    ) -> None:
        self.pattern = None if pattern is None else NM.parse(pattern)
        dense = 0 if self.pattern is None else self.pattern.sparsity
        self.budgets = [Budget.parse(dense if value is None else value) for value in sparsities]
        self.sparsities, self.max_macs, self.macs = sparsities, max_macs, macs
        self.unit: Unit = unit_of(granularity)
        self.allocation, self.method = allocation, _find_allocation(allocation, self.unit)
        check_within(within)
        self.within: Within = within
        self.min_kept, self.seed, self.scores = min_kept, seed, scores
        if scores is not None and (self.unit.name != "weight" or not self.method.scores):
            what = (
                f'granularity "{granularity}"' if self.unit.name != "weight" else f'allocation "{allocation}"'
            )
            raise BudgetError(
                f"scores rank single weights, so they have no meaning for {what}; leave one of them out"
            )
        Minimums.parse(min_kept, total=0, unit=self.unit.plural)
        self._check_automatic()
        self.runs = self._find_runs()
        self.unit = self.runs or self.unit
        self._check_macs()
        self._scope, self._exclude, self._blocks = scope, exclude, blocks

    def count_macs(self, model: nn.Module, example: Any) -> dict[str, int | None]:
        """Return the MACs of every tensor in scope for an input, as `gpmt.macs.count_macs` does."""
        return count_macs(model, example, scope=self._scope, exclude=self._exclude)

    def find_scope(self, target: Target) -> Scope:
        """Return the scope; tensors that processes share are in it as they are."""
        return find_scope(target, scope=self._scope, exclude=self._exclude, blocks=self._blocks, shared=True)

    def _find_runs(self) -> InRuns | None:
        """Return the unit of weights that are compared within rows or a pattern; None without either."""
        if self.pattern is None and self.within != "row":
            return None
        what = 'within="row"' if self.pattern is None else f'pattern "{self.pattern}"'
        if self.pattern is not None:
            if self.within != "network":
                raise BudgetError(
                    f'{what} says what is compared, so within="{self.within}" has no meaning with it'
                )
            for sparsity in (sparsity for budget in self.budgets for _, sparsity in budget.rules):
                self.pattern.check_sparsity(sparsity)
        if self.unit.name != "weight":
            raise BudgetError(
                f'{what} compares single weights, so granularity "{self.unit.name}" has no meaning with it; leave '
                "one of them out"
            )
        if not self.method.runs:
            raise BudgetError(
                f'{what} gives each its share, so allocation "{self.allocation}" has nothing to decide; leave one of '
                "them out"
            )
        return InRuns(self.pattern)

    def least(self, found: Scope) -> dict[str, int]:
        """Return how many weights each tensor with norms keeps so that none of the norms becomes zero."""
        if self.runs is not None:
            for name, how in found.effective.items():
                # The largest weight of a run stays, and so does that of every output.
                norms = how.norms(found.tensors[name].shape)
                if norms > 1 and (
                    how.magnitude is None or how.magnitude.shape[found.axes[name].output] != norms
                ):
                    raise ScopeError(
                        f"{name} is reparametrised with norms that are not those of its outputs, which could become "
                        "zero; exclude it, or make it plain"
                    )
            return {}
        if found.effective and self.unit.name != "weight":
            raise ScopeError(
                f"{next(iter(found.effective))} is reparametrised, and whole {self.unit.plural} are pruned of plain "
                "weights only; exclude it, or make it plain"
            )
        return {name: how.norms(found.tensors[name].shape) for name, how in found.effective.items()}

    def _check_automatic(self) -> None:
        """Refuse an automatic minimum where it cannot be told from a sparsity."""
        if not is_automatic(self.min_kept):
            return
        if self.pattern is not None or self.within == "row":
            raise BudgetError(
                'min_kept is "auto", but every row, or every M inputs, keeps its share already; leave min_kept out'
            )
        if None in self.sparsities:
            raise BudgetError(
                'min_kept is "auto", which follows from a sparsity; give one, or a number for min_kept'
            )

    def _check_macs(self) -> None:
        """Refuse a budget in MACs that is not one, or that other options contradict."""
        if self.max_macs is None:
            if None in self.sparsities and self.pattern is None:
                raise BudgetError(
                    "there is no sparsity; give one, such as sparsity=0.9, or max_macs, a pattern or a plan"
                )
            return
        parse_max_macs(self.max_macs, 0)
        if self.macs is None:
            raise BudgetError(
                "max_macs needs the MACs of every tensor; give macs, the shape of one input such as (3, 224, 224), "
                "or what gpmt.macs.count_macs returns"
            )
        grouped = any(len(budget.rules) > 1 or budget.rules[0][0] is not None for budget in self.budgets)
        for name, value, plain in (
            ("a mapping of sparsities", grouped, False),
            ("pattern", self.pattern and str(self.pattern), None),
            ("within", self.within, "network"),
            ("allocation", self.allocation, "exact"),
            ("granularity", self.unit.name, "weight"),
        ):
            if value != plain:
                raise BudgetError(
                    f"max_macs ranks the single weights of the whole network, so it cannot be combined with {name}"
                    + ("; leave one of them out" if plain is False else f" {value!r}; leave one of them out")
                )


def _find_allocation(name: str, unit: Unit) -> Allocation:
    """Return an allocation; refuse one that cannot share what the granularity counts."""
    found = allocations.find(name)
    if unit.name != "weight" and not found.columns:
        raise BudgetError(
            f'allocation "{name}" shares single weights only, so it has no meaning for granularity "{unit.name}"; '
            'use "exact" or "uniform"'
        )
    return found
