"""Feather: soft masks whose shrinking fades with the size of a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Self

from torch import Tensor

from gpmt.core.budget.budget import exact_fraction
from gpmt.core.schedule.schedule import Schedule
from gpmt.core.soft import soft_loops
from gpmt.core.soft.soft_thresholds import feather
from gpmt.errors import MethodError
from gpmt.planning.items import Item
from gpmt.pruner.methods.soft_method import SoftMethod

HIGH = Fraction(95, 100)
"""The sparsity above which gradients of pruned weights are halved."""


@dataclass(frozen=True)
class Feather(SoftMethod):
    """Dense weights train on; the network is their T(w) = sign(w) · (|w|^p − t^p)^(1/p) where |w| > t, else 0.

    The threshold t of a block is the largest float below the magnitude at which it is cut, so that exactly the
    weights of the mask are not zero. Gradients are those of the loss at T(w), applied to w (straight-through). The
    published schedule is cubic from 0 at the start to the final sparsity at half of the steps:
    ``gpmt.Gradual(0.95, end=steps // 2)``. What holds for all soft masks stands in `SoftMethod`.

    Source: Glentis Georgoulakis, Retsinas and Maragos 2023, arXiv 2310.02448 (athglentis/feather).

    Args:
        power: p, at least 1. Of 1 all kept weights lose t; the larger it is, the less large weights lose.
        theta: what multiplies the gradients of pruned weights, at least 0; by default 0.5 where the final sparsity of
            the schedule is above 95 %, and 1 otherwise. (Weights that are zero though kept count as pruned here.)

    Raises `MethodError` for other values.

    >>> from gpmt.core.schedule.schedule import OneShot
    >>> Feather().for_schedule(OneShot(0.98)).theta
    0.5
    """

    name: ClassVar[str] = "feather"
    power: float = 3
    theta: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.power) or not 1 <= self.power < math.inf:
            raise MethodError(f"power is {self.power!r}, but must be a number of at least 1, such as 3")
        if self.theta is not None and (not _is_number(self.theta) or not 0 <= self.theta < math.inf):
            raise MethodError(f"theta is {self.theta!r}, but must be a number of at least 0, such as 0.5")

    def for_schedule(self, schedule: Schedule | None) -> Self:
        """Return the method with `theta` set by the final sparsity."""
        if self.theta is not None or schedule is None:
            return self
        return replace(self, theta=0.5 if exact_fraction(schedule.sparsity) > HIGH else 1.0)

    @property
    def gradient_scale(self) -> float:
        """What multiplies the gradients of pruned weights."""
        return 1.0 if self.theta is None else float(self.theta)

    def shrink(self, item: Item, weight: Tensor, kept: Tensor, threshold: float) -> Tensor:
        """Return T(w) of one block."""
        return feather(weight, kept, threshold, self.power)

    def loop(self, item: Item) -> soft_loops.Loop | None:
        """Return the loop of the power 3."""
        return soft_loops.feather3 if self.power == 3 else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
