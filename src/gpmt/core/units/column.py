"""A column of a matrix."""

from __future__ import annotations

from torch import Tensor

from gpmt.core.layers.axes import Axes
from gpmt.core.units.summed import Summed
from gpmt.errors import ScopeError


class Column(Summed):
    """A column of a matrix: an index along its last dimension, whatever it counts.

    >>> import torch
    >>> Column().values("W1", Axes(), torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
    tensor([1.5000, 2.0000], dtype=torch.float64)
    """

    name = "column"

    def check(self, name: str, axes: Axes, shape: tuple[int, ...]) -> None:
        """Raise `ScopeError` for what is not a matrix."""
        if len(shape) != 2:
            raise ScopeError(
                f"{name} has {len(shape)} dimensions, but whole columns are pruned of matrices only; exclude it, "
                "or choose matrices with scope"
            )

    def arrange(self, axes: Axes, block: Tensor) -> Tensor:
        """Return a matrix as [1, rows, columns, 1]."""
        return block[None, :, :, None]

    def sizes(self, axes: Axes, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the sizes of an arranged matrix."""
        return 1, shape[0], shape[1], 1

    def grid(self, sizes: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return a unit for each column."""
        return 1, 1, sizes[2], 1
