"""ST-3: soft thresholding, straight-through gradients, and outputs scaled back to their size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpmt.core.scope.scope import Scope
from gpmt.core.soft import soft_loops
from gpmt.core.soft.soft_thresholds import rescaling, soft
from gpmt.errors import MethodError
from gpmt.planning.items import Item
from gpmt.pruner.methods.soft_method import SoftMethod


@dataclass(frozen=True)
class ST3(SoftMethod):
    """Dense weights train on; the network is their T(w) = a · sign(w) · (|w| − t) where |w| > t, else 0.

    The threshold t of a block is the largest float below the magnitude at which it is cut, so that exactly the
    weights of the mask are not zero. The factor a = 1.01 / (r + 0.01) of each output, where r is the share of its
    magnitude that is kept, makes up for what the threshold takes. Gradients are those of the loss at T(w), and are
    applied to w (straight-through). The published schedule is cubic, from 5 % to half of the steps. What holds for
    all soft masks stands in `SoftMethod`.

    Source: Vanderschueren and De Vleeschouwer 2022, arXiv 2212.01076; factor and `flat` from vanderschuea/stthree.

    Args:
        rescale: whether outputs have the factor a; otherwise it is 1.
        flat: compare |w| · √(sum of the tensor's dimensions) between tensors (ST-3σ), which leaves large tensors more
            weights and costs less multiply-adds. The floors, and what is compared within a tensor, stay the same.

    Raises `MethodError` for values that are not bools.

    >>> ST3().to_dict()
    {'name': 'st-3', 'rescale': True, 'flat': False}
    """

    name: ClassVar[str] = "st-3"
    rescale: bool = True
    flat: bool = False

    def __post_init__(self) -> None:
        for name, value in (("rescale", self.rescale), ("flat", self.flat)):
            if not isinstance(value, bool):
                raise MethodError(f"{name} is {value!r}, but must be True or False")

    def factors(self, scope: Scope) -> dict[str, float] | None:
        """Return what multiplies magnitudes for the flatter ranking."""
        if not self.flat:
            return None
        return {name: math.sqrt(sum(tensor.shape)) for name, tensor in scope.tensors.items()}

    def shrink(self, item: Item, weight: Tensor, kept: Tensor, threshold: float) -> Tensor:
        """Return T(w) of one block."""
        scale = rescaling(weight, kept, item.axes) if self.rescale else None
        return soft(weight, kept, threshold, scale)

    def loop(self, item: Item) -> soft_loops.Loop | None:
        """Return the loop, which rescales only where each output is a row."""
        plain: soft_loops.Loop = soft_loops.soft
        if not self.rescale:
            return plain
        if item.axes.output != 0 or item.axes.stacked or not item.numel:
            return None
        width = item.numel // item.shape[0]

        def rescaled(
            weights: NDArray[np.float32],
            limit: np.float32,
            ties: int,
            threshold: np.float32,
            shown: NDArray[np.float32],
        ) -> None:
            plain(weights, limit, ties, threshold, shown)
            soft_loops.rescale(weights, shown, width)

        return rescaled
