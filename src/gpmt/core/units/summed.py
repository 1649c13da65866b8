"""Units of several weights, which rank by the sum of their magnitudes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gpmt.core.keys.keys import CHUNK
from gpmt.core.layers.axes import Axes
from gpmt.core.missing_data import check_has_data
from gpmt.core.units import unit_loops
from gpmt.core.units.unit import Unit
from gpmt.errors import ScopeError, WeightsError


class Summed(Unit):
    """A unit of several weights.

    The magnitudes of a unit are added one by one, in float64 on the CPU, in the order [layers, outputs, inputs, taps]
    of its weights. So the sums are the same to the last bit on every device and processor, for every memory format
    and size of a chunk.
    """

    width: ClassVar[int] = 1
    """How many inputs are in a unit that does not hold all of them."""

    def check(self, name: str, axes: Axes, shape: tuple[int, ...]) -> None:
        """Raise `ScopeError` where it is not known which dimension counts the outputs."""
        if not axes.told:
            raise ScopeError(
                f"nothing tells which dimension of {name} counts its outputs, so whole {self.plural} of it cannot be "
                "pruned; exclude it"
            )

    @abstractmethod
    def grid(self, sizes: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Return how many units there are along layers, outputs, inputs and taps, given the sizes of a block."""

    def arrange(self, axes: Axes, block: Tensor) -> Tensor:
        """Return a block as [layers, outputs, inputs, taps]."""
        return axes.arrange(block)

    def sizes(self, axes: Axes, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the sizes of an arranged block."""
        return axes.sizes(shape)

    def count(self, axes: Axes, shape: tuple[int, ...]) -> int:
        """Return how many units a block has; none without weights."""
        if 0 in shape:
            return 0
        return int(np.prod(self.grid(self.sizes(axes, shape)), dtype=np.int64))

    def values(self, name: str, axes: Axes, block: Tensor) -> Tensor:
        """Return the sum of |w| over each unit: float64 [units].

        Raises `WeightsError` for sums that are not finite, and for a block without data.
        """
        check_has_data({name: block})
        sizes = self.sizes(axes, tuple(block.shape))
        sums = np.zeros(self.grid(sizes) if block.numel() else (0, 0, 0, 0))
        for start, rows in _row_chunks(self.arrange(axes, block.detach())):
            unit_loops.add_magnitudes(rows.cpu().double().contiguous().numpy(), *start, self.width, sums)
        if bad := int((~np.isfinite(sums)).sum()):
            raise WeightsError(
                f"{name} has {bad:,} of {sums.size:,} {self.plural} whose sum is NaN or infinite, and cannot be "
                "ranked; repair the checkpoint or exclude the tensor"
            )
        return torch.from_numpy(sums).view(-1)

    def spread(self, kept: Tensor, axes: Axes, shape: tuple[int, ...]) -> Tensor:
        """Repeat the bool of each unit in all of its weights."""
        mask = torch.zeros(shape, dtype=torch.bool, device="cpu")
        if kept.numel():
            arranged = self.arrange(axes, mask)
            grid = kept.view(self.grid(self.sizes(axes, shape)))
            if self.width > 1:
                grid = grid.repeat_interleave(self.width, dim=2)[:, :, : arranged.shape[2]]
            arranged.copy_(grid.expand(arranged.shape))
        return mask

    def live(self, axes: Axes, block: Tensor) -> int:
        """Count the units that are not all zero, with chunks of a bounded size."""
        if not block.numel():
            return 0
        live = np.zeros(self.grid(self.sizes(axes, tuple(block.shape))), np.bool_)
        for start, rows in _row_chunks(self.arrange(axes, block.detach())):
            unit_loops.mark_live(rows.ne(0).cpu().contiguous().numpy(), *start, self.width, live)
        return int(live.sum())


def _row_chunks(arranged: Tensor) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yield some outputs of one layer at a time, [outputs, inputs, taps], and the layer and output they start at."""
    layers, outputs, inputs, taps = arranged.shape
    at_a_time = max(1, CHUNK // max(1, inputs * taps))
    for layer in range(layers):
        for output in range(0, outputs, at_a_time):
            yield (layer, output), arranged[layer, output : output + at_a_time]
