"""All weights of one output."""

from __future__ import annotations

from gpmt.core.units.summed import Summed


class Row(Summed):
    """All weights of one output: a row of a matrix, a filter of a convolution.

    >>> import torch
    >>> from gpmt.core.layers.axes import Axes
    >>> Row().values("fc.weight", Axes(), torch.tensor([[1.0, -2.0], [0.5, 0.0]]))
    tensor([3.0000, 0.5000], dtype=torch.float64)
    """

    name = "row"

    def grid(self, sizes: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return a unit for each output of each layer."""
        return sizes[0], sizes[1], 1, 1
