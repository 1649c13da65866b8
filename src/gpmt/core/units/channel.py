"""All weights of one input."""

from __future__ import annotations

from gpmt.core.units.summed import Summed


class Channel(Summed):
    """All weights of one input: an input channel of a convolution, a column of a matrix.

    >>> import torch
    >>> from gpmt.core.layers.axes import Axes
    >>> Channel().values("conv.weight", Axes(), torch.tensor([[[1.0, 2.0], [0.0, 0.5]]]))
    tensor([3.0000, 0.5000], dtype=torch.float64)
    """

    name = "channel"

    def grid(self, sizes: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return a unit for each input of each layer."""
        return sizes[0], 1, sizes[2], 1
