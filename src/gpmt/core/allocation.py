"""The base classes of allocations, which decide how many weights each tensor keeps, and which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from gpmt.core.budget import check_feasible, floor_of, pruned_count
from gpmt.core.keys import KeyFormat, KeySource, MagnitudeKeys, key_format_of
from gpmt.core.select import Selection, select
from gpmt.errors import ScopeError


@dataclass(frozen=True)
class Problem:
    """The input of an allocation, which has to select the weights to keep for each sparsity.

    Attributes:
        tensors: the values to rank by magnitude, by name: the weights, or one sum for each column.
        sparsities: the sparsities asked for.
        min_kept: the minimum threshold σ, as a number of values.
        seed: for allocations that draw at random.
        unit: the name of the values in errors, "weights" or "columns".
        least: values that some tensors keep at least whatever the minimum is, by name.
    """

    tensors: Mapping[str, Tensor]
    sparsities: Sequence[Fraction]
    min_kept: int
    seed: int = 0
    unit: str = "weights"
    least: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `ScopeError` where there is no weight, `BudgetError` for floors that need more than a total."""
        if not any(self.sizes):
            raise ScopeError("there is no weight to prune: the scope holds no tensor with elements")
        sizes = dict(zip(self.tensors, self.sizes, strict=True))
        for sparsity in self.sparsities:
            check_feasible(sizes, sparsity=sparsity, min_kept=self.min_kept, unit=self.unit, least=self.least)

    @cached_property
    def sizes(self) -> list[int]:
        """The number of values of each tensor, in the order of `tensors`."""
        return [tensor.numel() for tensor in self.tensors.values()]

    @cached_property
    def floors(self) -> list[int]:
        """The number of values that each tensor keeps at least."""
        return [
            max(floor_of(size, self.min_kept), self.least.get(name, 0))
            for name, size in zip(self.tensors, self.sizes, strict=True)
        ]

    @cached_property
    def totals(self) -> list[int]:
        """The number of values to keep in all tensors together, one for each sparsity."""
        numel = sum(self.sizes)
        return [numel - pruned_count(sparsity, numel) for sparsity in self.sparsities]


class Allocation(ABC):
    """How the kept weights are shared among the tensors, and which weights of each they are.

    Each file of `gpmt.allocations` has one subclass; docs/extending.md lists the steps to add one.
    """

    exact_total: ClassVar[bool] = True
    """Exactly the total is kept, and every floor."""
    columns: ClassVar[bool] = True
    """Columns can be shared as well as single weights."""
    global_threshold: ClassVar[bool] = False
    """One magnitude may decide in all tensors, but for the floors; `Selection.key` is then its key."""

    def keys(self, problem: Problem) -> tuple[list[KeySource], KeyFormat]:
        """Return the keys that rank the weights of each tensor; by default those of their magnitudes.

        Raises `WeightsError` for weights without data.
        """
        key_format = key_format_of(problem.tensors.values())
        sources = [MagnitudeKeys(name, tensor, key_format) for name, tensor in problem.tensors.items()]
        return list(sources), key_format

    @abstractmethod
    def select(
        self, problem: Problem, sources: Sequence[KeySource], key_format: KeyFormat
    ) -> list[Selection]:
        """Decide where every tensor is cut, for each sparsity.

        `sources` and `key_format` are those of `keys`. Raises `WeightsError` for weights that are not finite.
        """


class CountAllocation(Allocation):
    """An allocation that decides only how many weights each tensor keeps: the largest ones."""

    @abstractmethod
    def counts(self, problem: Problem) -> Sequence[Sequence[int]]:
        """Return how many weights each tensor keeps, at least its floor; one list for each total."""

    def select(
        self, problem: Problem, sources: Sequence[KeySource], key_format: KeyFormat
    ) -> list[Selection]:
        """Cut every tensor at its count."""
        selections = []
        for counts in self.counts(problem):
            [found] = select(sources, key_format, totals=[sum(counts)], floors=counts)
            cuts = [
                replace(cut, binds=0 < floor == cut.kept)
                for floor, cut in zip(problem.floors, found.cuts, strict=True)
            ]
            selections.append(Selection(tuple(cuts), None))
        return selections
