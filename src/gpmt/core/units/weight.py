"""A single weight."""

from __future__ import annotations

import torch
from torch import Tensor

from gpmt.core.layers.axes import Axes
from gpmt.core.units.unit import Unit


class Weight(Unit):
    """A single weight."""

    name = "weight"

    def count(self, axes: Axes, shape: tuple[int, ...]) -> int:
        """Return the number of weights."""
        return torch.Size(shape).numel()

    def in_order(self, axes: Axes, shape: tuple[int, ...]) -> bool:
        """Say that they are."""
        return True

    def values(self, name: str, axes: Axes, block: Tensor) -> Tensor:
        """Return the weights themselves."""
        return block

    def spread(self, kept: Tensor, axes: Axes, shape: tuple[int, ...]) -> Tensor:
        """Return the bools as they are."""
        return kept.view(shape)

    def live(self, axes: Axes, block: Tensor) -> int:
        """Count the weights that are not zero."""
        return int(block.count_nonzero())
