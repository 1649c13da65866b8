"""The base classes of allocations, which decide how many weights each block keeps, and which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from gpmt.core.budget.budget import pruned_count
from gpmt.core.keys.keys import KeyFormat, KeySource, MagnitudeKeys, key_format_of
from gpmt.core.selection.select import Selection, select


@dataclass(frozen=True)
class Problem:
    """The input of an allocation, which has to select the values to keep for each total.

    Attributes:
        tensors: the values to rank, by the name of their block: the weights, or one sum for each unit.
        shapes: the shape of each block.
        sparsities: the sparsities asked for.
        floors: the number of values that each block keeps at least.
        min_kept: the minimum threshold, where one number holds for every block.
    """

    tensors: Mapping[str, Tensor]
    shapes: Sequence[tuple[int, ...]]
    sparsities: Sequence[Fraction]
    floors: Sequence[int]
    min_kept: int | None = 0

    @cached_property
    def sizes(self) -> list[int]:
        """The number of values of each block, in the order of `tensors`."""
        return [tensor.numel() for tensor in self.tensors.values()]

    @cached_property
    def totals(self) -> list[int]:
        """The number of values to keep in all blocks together, one for each sparsity."""
        numel = sum(self.sizes)
        return [numel - pruned_count(sparsity, numel) for sparsity in self.sparsities]


class Allocation(ABC):
    """How the kept weights are shared among the blocks, and which weights of each they are.

    Each file of `gpmt.allocations` has one subclass; docs/extending.md lists the steps to add one.
    """

    exact_total: ClassVar[bool] = True
    """Exactly the total is kept, and every floor."""
    columns: ClassVar[bool] = True
    """Columns and other units can be shared as well as single weights."""
    blocks: ClassVar[bool] = True
    """Floors hold in every block of a tensor; otherwise a tensor is one block."""
    scores: ClassVar[bool] = True
    """Scores can rank the weights in place of their magnitudes."""
    runs: ClassVar[bool] = False
    """Weights can be compared within rows or N:M patterns, of which each keeps its share."""
    global_threshold: ClassVar[bool] = False
    """One magnitude may decide in all tensors, but for the floors; `Selection.key` is then its key."""

    def keys(self, tensors: Mapping[str, Tensor], *, seed: int = 0) -> tuple[list[KeySource], KeyFormat]:
        """Return the keys that rank the values of each block; by default those of their magnitudes.

        `seed` is for allocations that draw at random. Raises `WeightsError` for weights without data.
        """
        key_format = key_format_of(tensors.values())
        return [MagnitudeKeys(name, tensor, key_format) for name, tensor in tensors.items()], key_format

    @abstractmethod
    def select(
        self, problem: Problem, sources: Sequence[KeySource], key_format: KeyFormat
    ) -> list[Selection]:
        """Decide where every block is cut, for each sparsity.

        `sources` and `key_format` are those of `keys`. Raises `WeightsError` for weights that are not finite.
        """


class CountAllocation(Allocation):
    """An allocation that decides only how many weights each block keeps: the largest ones."""

    @abstractmethod
    def counts(self, problem: Problem) -> Sequence[Sequence[int]]:
        """Return how many weights each block keeps, at least its floor; one list for each total."""

    def select(
        self, problem: Problem, sources: Sequence[KeySource], key_format: KeyFormat
    ) -> list[Selection]:
        """Cut every block at its count."""
        selections = []
        for counts in self.counts(problem):
            [found] = select(sources, key_format, totals=[sum(counts)], floors=counts)
            cuts = [
                replace(cut, binds=0 < floor == cut.kept)
                for floor, cut in zip(problem.floors, found.cuts, strict=True)
            ]
            selections.append(Selection(tuple(cuts), None))
        return selections
