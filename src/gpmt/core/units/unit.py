"""What is pruned as one: the base class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from gpmt.core.layers.axes import Axes
from gpmt.core.units.names import PLURALS


class Unit(ABC):
    """What is pruned as one. `axes` tell outputs from inputs in the dimensions of a block."""

    name: ClassVar[str]
    """The granularity that asks for it."""

    @property
    def plural(self) -> str:
        """What sparsities, minimums and totals count, such as "columns"."""
        return PLURALS[self.name]

    def check(self, name: str, axes: Axes, shape: tuple[int, ...]) -> None:  # noqa: B027  # most have units of any shape
        """Raise `ScopeError` where a tensor of this shape has no such units."""

    @abstractmethod
    def count(self, axes: Axes, shape: tuple[int, ...]) -> int:
        """Return how many units a block has."""

    def in_order(self, axes: Axes, shape: tuple[int, ...]) -> bool:
        """Whether the units of a block are its weights in their own order."""
        return False

    @abstractmethod
    def values(self, name: str, axes: Axes, block: Tensor) -> Tensor:
        """Return what ranks the units of a block, in their order; raise `WeightsError` for infinite sums."""

    @abstractmethod
    def spread(self, kept: Tensor, axes: Axes, shape: tuple[int, ...]) -> Tensor:
        """Turn bools of the units into a bool mask of a block's shape."""

    @abstractmethod
    def live(self, axes: Axes, block: Tensor) -> int:
        """Count the units with any weight that is not zero (NaN is not zero)."""
