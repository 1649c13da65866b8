"""Four consecutive inputs of one output."""

from __future__ import annotations

from gpmt.arithmetic import ceil_div
from gpmt.core.units.summed import Summed


class Vector(Summed):
    """Four consecutive inputs of one output, at the same tap of a convolution; the last ones may be fewer.

    >>> import torch
    >>> from gpmt.core.layers.axes import Axes
    >>> Vector().values("fc.weight", Axes(), torch.ones(1, 6))
    tensor([4., 2.], dtype=torch.float64)
    """

    name = "1x4"
    width = 4

    def grid(self, sizes: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return a unit for every four inputs of each output and tap."""
        layers, outputs, inputs, taps = sizes
        return layers, outputs, ceil_div(inputs, self.width), taps
