"""Granularity: what is pruned as one, single weights or whole columns of matrices.

A unit ranks by the sum of its magnitudes. With the sums in place of the weights everything else is as for single
weights: totals, floors, allocations, and ties in the order of the blocks and then of the units. Only the masks are
spread over the weights again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gpmt.core.keys import CHUNK
from gpmt.core.missing_data import check_has_data
from gpmt.errors import BudgetError, ScopeError, WeightsError

Granularity = Literal["weight", "column"]


class Unit(ABC):
    """What is pruned as one. `kind` is the class of a block's layer, which tells outputs from inputs."""

    name: ClassVar[str]

    @property
    def plural(self) -> str:
        """What sparsities, minimums and totals count, such as "columns"."""
        return f"{self.name}s"

    def check(self, name: str, kind: str, shape: tuple[int, ...]) -> None:  # noqa: B027  # most have units of any shape
        """Raise `ScopeError` where a tensor of this shape has no such units."""

    @abstractmethod
    def count(self, kind: str, shape: tuple[int, ...]) -> int:
        """Return how many units a block has."""

    @abstractmethod
    def values(self, name: str, kind: str, block: Tensor) -> Tensor:
        """Return what ranks the units of a block, in their order; raise `WeightsError` for infinite sums."""

    @abstractmethod
    def spread(self, kept: Tensor, kind: str, shape: tuple[int, ...]) -> Tensor:
        """Turn bools of the units into a bool mask of a block's shape."""

    @abstractmethod
    def live(self, kind: str, block: Tensor) -> int:
        """Count the units with any weight that is not zero (NaN is not zero)."""


class Weight(Unit):
    """A single weight."""

    name = "weight"

    def count(self, kind: str, shape: tuple[int, ...]) -> int:
        """Return the number of weights."""
        return torch.Size(shape).numel()

    def values(self, name: str, kind: str, block: Tensor) -> Tensor:
        """Return the weights themselves."""
        return block

    def spread(self, kept: Tensor, kind: str, shape: tuple[int, ...]) -> Tensor:
        """Return the bools as they are."""
        return kept.view(shape)

    def live(self, kind: str, block: Tensor) -> int:
        """Count the weights that are not zero."""
        return int(block.count_nonzero())


class Column(Unit):
    """A column of a matrix: an index along its last dimension."""

    name = "column"

    def check(self, name: str, kind: str, shape: tuple[int, ...]) -> None:
        """Raise `ScopeError` for what is not a matrix."""
        if len(shape) != 2:
            raise ScopeError(
                f"{name} has {len(shape)} dimensions, but whole columns are pruned of matrices only; exclude it, "
                "or choose matrices with scope"
            )

    def count(self, kind: str, shape: tuple[int, ...]) -> int:
        """Return the number of columns."""
        return shape[-1]

    def values(self, name: str, kind: str, block: Tensor) -> Tensor:
        """Return the sum of |w| over each column: float64 [columns].

        The rows are added one by one from the first to the last, in float64 on the CPU, so that the sums are the
        same to the last bit on every device and for every memory format.

        >>> Column().values("W1", "matrix", torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
        tensor([1.5000, 2.0000], dtype=torch.float64)
        """
        check_has_data({name: block})
        sums = np.zeros(block.shape[-1])
        with np.errstate(over="ignore"):  # refused below
            for rows in _row_chunks(block.detach()):
                for row in rows.cpu().double().abs().numpy():
                    sums += row
        if bad := int((~np.isfinite(sums)).sum()):
            raise WeightsError(
                f"{name} has {bad:,} of {len(sums):,} columns whose sum is NaN or infinite, and cannot be ranked; "
                "repair the checkpoint or exclude the tensor"
            )
        return torch.from_numpy(sums)

    def spread(self, kept: Tensor, kind: str, shape: tuple[int, ...]) -> Tensor:
        """Repeat the bools in every row."""
        return kept.expand(shape)

    def live(self, kind: str, block: Tensor) -> int:
        """Count the columns that are not all zero, with chunks of a bounded size."""
        live = torch.zeros(block.shape[-1], dtype=torch.bool, device=block.device)
        for rows in _row_chunks(block.detach()):
            live |= rows.ne(0).any(dim=0)
        return int(live.count_nonzero())


UNITS: dict[Any, Unit] = {unit.name: unit for unit in (Weight(), Column())}


def unit_of(granularity: str) -> Unit:
    """Return the unit of a granularity; raise `BudgetError` for an unknown one."""
    if granularity not in UNITS:
        raise BudgetError(
            f"granularity is {granularity!r}, but must be one of {', '.join(get_args(Granularity))}"
        )
    return UNITS[granularity]


def _row_chunks(matrix: Tensor) -> tuple[Tensor, ...]:
    return torch.split(matrix, max(1, CHUNK // max(1, matrix.shape[1])))
