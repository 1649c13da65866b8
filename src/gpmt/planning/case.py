"""A request on one network: blocks, floors, groups and keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from gpmt.core.budget.budget import check_feasible, pruned_count
from gpmt.core.budget.minimums import Minimums
from gpmt.core.keys.keys import KeyFormat, KeySource, ScoreKeys, score_format_of
from gpmt.core.scope.reparametrised import KeysKeeping
from gpmt.core.scope.scope import Scope
from gpmt.core.selection.allocation import Problem
from gpmt.core.selection.select import Selection
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.groups import Group, automatic_minimum_of, divide
from gpmt.planning.items import Item, named
from gpmt.planning.macs_budget import MacsProblem, parse_max_macs
from gpmt.planning.request import Request
from gpmt.planning.run_checks import check_infinite_in_runs, check_run, lengths_of
from gpmt.planning.scoring import Infinite, check_infinite


class Case:
    """A request on one network: the blocks, their floors, and the groups of every budget.

    Raises `BudgetError` where floors do not fit into a budget, before any weight is read.
    """

    def __init__(
        self, request: Request, found: Scope, items: Sequence[Item], *, scored: bool = False
    ) -> None:
        self.request, self.found, self.items, self.scored = request, found, items, scored
        self.infinite = [Infinite.of(item.values) for item in items] if scored else []
        sizes = [item.numel for item in items]
        if not any(sizes):
            raise ScopeError("there is no weight to prune: the scope holds no tensor with elements")
        names = named(items, found)
        self.divisions = [divide(names, budget, request.within) for budget in request.budgets]
        self.minimums = Minimums.parse(
            request.min_kept,
            total=sum(sizes),
            unit=request.unit.plural,
            auto=min(automatic_minimum_of(division, sizes) for division in self.divisions),
        )
        self.lengths = [] if request.runs is None else lengths_of(request.runs, items)
        if request.runs is None or request.pattern is not None:
            floors = self.minimums.floors(names, sizes)
        else:  # those of each row
            least = self.minimums.floors(names, self.lengths)
            runs = [size // length for size, length in zip(sizes, self.lengths, strict=True)]
            floors = [count * floor for count, floor in zip(runs, least, strict=True)]
        self.floors = [max(floor, item.least) for floor, item in zip(floors, items, strict=True)]
        for group in (group for division in self.divisions for group in division):
            self._check(group)

    def kept_in_runs(self, group: Group) -> dict[int, int]:
        """Return how many weights of each run stay, by the place of the block."""
        return {
            place: self.lengths[place] - pruned_count(group.sparsity, self.lengths[place])
            for place in group.places
        }

    def _check_runs(self, group: Group) -> None:
        for place, kept in self.kept_in_runs(group).items():
            item, length = self.items[place], self.lengths[place]
            check_run(
                item,
                length,
                kept,
                floor=self.floors[place],
                minimum=str(self.minimums),
                pattern=self.request.pattern,
                sparsity=group.sparsity,
            )
            if self.scored:
                check_infinite_in_runs(item, length, kept)

    def _check(self, group: Group) -> None:
        if self.lengths:
            self._check_runs(group)
            return
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
        if self.scored:
            numel = sum(item.numel for item in members)
            check_infinite(
                [item.name for item in members],
                [item.numel for item in members],
                [self.floors[place] for place in group.places],
                [self.infinite[place] for place in group.places],
                total=numel - pruned_count(group.sparsity, numel),
                of=group.of,
            )

    def keys(self) -> tuple[list[KeySource], KeyFormat]:
        """Return the keys of every block."""
        if self.scored:
            scores = score_format_of(item.values for item in self.items)
            return [ScoreKeys(item.name, item.values, scores) for item in self.items], scores
        values = {item.name: item.values for item in self.items}
        sources, key_format = self.request.method.keys(values, seed=self.request.seed)
        effective = self.found.effective
        return [
            KeysKeeping(source, effective[item.tensor].largest(item.values), key_format)
            if item.tensor in effective and not self.lengths
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

    def macs_problem(self) -> MacsProblem:
        """Return the blocks with their MACs. Raises `BudgetError` for MACs that are not known."""
        request = self.request
        assert request.max_macs is not None
        assert isinstance(request.macs, Mapping)
        if self.found.effective:
            raise ScopeError(
                f"{next(iter(self.found.effective))} is reparametrised, and max_macs ranks plain weights only; "
                "exclude it, or make it plain"
            )
        macs = []
        for item in self.items:
            names = (item.tensor, *self.found.aliases.get(item.tensor, ()))
            count = next((request.macs[name] for name in names if request.macs.get(name) is not None), None)
            if count is None:
                raise BudgetError(
                    f"the MACs of {item.tensor} are not known, since its layer did not run or is of an unknown kind; "
                    "exclude it, or give them in macs"
                )
            macs.append(Fraction(count * item.numel, self.found.tensors[item.tensor].numel() or 1))
        if self.scored and any(bool((item.values < 0).any()) for item in self.items):
            raise BudgetError("max_macs ranks by score per MAC, but some scores are negative; give others")
        return MacsProblem(
            names=[item.name for item in self.items],
            values=[item.values for item in self.items],
            magnitudes=not self.scored,
            macs=macs,
            floors=self.floors,
            budget=parse_max_macs(request.max_macs, int(sum(macs))),
        )
