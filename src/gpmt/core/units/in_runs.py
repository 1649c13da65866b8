"""A single weight, compared with those of its row, or with the M inputs around it."""

from __future__ import annotations

import torch
from torch import Tensor

from gpmt.core.layers.axes import Axes
from gpmt.core.selection.nm import NM
from gpmt.core.units.weight import Weight
from gpmt.errors import ScopeError


class InRuns(Weight):
    """A single weight, in an order in which those that are compared follow one another: a run.

    A run is a row, which holds all weights of one output, or, with a pattern N:M, M consecutive inputs of one output
    at the same tap. In a run the weights are in their own order.

    Attributes:
        pattern: the pattern; None for rows.
    """

    def __init__(self, pattern: NM | None) -> None:
        self.pattern = pattern

    def check(self, name: str, axes: Axes, shape: tuple[int, ...]) -> None:
        """Raise `ScopeError` where it is not known which dimension counts the outputs."""
        if not axes.told:
            raise ScopeError(
                f"nothing tells which dimension of {name} counts its outputs, so the inputs of one output cannot be "
                "compared; exclude it"
            )

    def arrange(self, axes: Axes, block: Tensor) -> Tensor:
        """Return a block with its runs one after another in flat order; a view where strides allow."""
        arranged = axes.arrange(block)
        return arranged if self.pattern is None else arranged.transpose(2, 3)

    def length(self, axes: Axes, shape: tuple[int, ...]) -> int:
        """Return the length of the runs of a block."""
        _, _, inputs, taps = axes.sizes(shape)
        return inputs * taps if self.pattern is None else self.pattern.of

    def in_order(self, axes: Axes, shape: tuple[int, ...]) -> bool:
        """Whether the runs of a block follow one another in its own flat order."""
        return not axes.outputs_second and (self.pattern is None or axes.sizes(shape)[3] == 1)

    def values(self, name: str, axes: Axes, block: Tensor) -> Tensor:
        """Return the weights run by run."""
        return self.arrange(axes, block)

    def spread(self, kept: Tensor, axes: Axes, shape: tuple[int, ...]) -> Tensor:
        """Put the bools back into the order of the block."""
        mask = torch.zeros(shape, dtype=torch.bool, device="cpu")
        arranged = self.arrange(axes, mask)
        arranged.copy_(kept.view(arranged.shape))
        return mask
