"""One minimum threshold: a number, a share of all weights, a share of each block, or one that fits the sparsity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from gpmt.core.budget.budget import exact_fraction, floor_of, parse_min_kept
from gpmt.errors import BudgetError

OF_TENSOR = "of tensor"
AUTO = "auto"


def automatic_minimum(numel: int, kept: int, blocks: int) -> int:
    """Return the minimum "auto": 3/4 of what a block keeps on average, and at most 4 % of what it has on average.

    So minimums take three quarters of the kept weights at most, and 4 % of all weights; there is room for them at
    every sparsity. Published ones are 0.3 to 6 % of the average block. The three quarters are what the network of
    `gpmt run digits`, which has hardly any shortcuts, needs at 95 and 98 %.

    Args:
        numel: the weights of all blocks together.
        kept: how many of them stay.
        blocks: how many blocks there are.

    >>> automatic_minimum(268_336, 26_834, 20), automatic_minimum(268_336, 5_367, 20)
    (536, 201)
    """
    return min(4 * numel, 75 * kept) // (100 * blocks)


def is_automatic(value: object) -> bool:
    """Return whether a minimum is "auto"."""
    return isinstance(value, str) and value.strip() == AUTO


@dataclass(frozen=True)
class Minimum:
    """One rule: a number, a share of all weights that are ranked, or a share of each block.

    Attributes:
        count: the number; None for a share of each block.
        share: the share of each block.

    >>> Minimum.parse("5% of tensor", total=10_000).floor(101), Minimum.parse("0.05%", total=10_000).floor(101)
    (6, 5)
    """

    count: int | None
    share: Fraction = Fraction(0)

    @classmethod
    def parse(cls, value: int | str, *, total: int, unit: str = "weights", auto: int = 0) -> Minimum:
        """Read a number, "0.05%" of the `total`, "5% of tensor", or "auto", which is the number `auto`.

        Raises `BudgetError` for anything else.
        """
        if is_automatic(value):
            return cls(auto)
        if isinstance(value, str) and value.strip().endswith(OF_TENSOR):
            text = value.strip().removesuffix(OF_TENSOR).strip()
            share = exact_fraction(text, what="min_kept")
            if not (0 <= share <= 1 and text.endswith("%")):
                raise BudgetError(
                    f'min_kept is {value!r}, but a share of a tensor lies between "0% {OF_TENSOR}" and '
                    f'"100% {OF_TENSOR}"'
                )
            return cls(None, share)
        return cls(parse_min_kept(value, total, unit=unit))

    def floor(self, numel: int) -> int:
        """Return the floor of a block; a share of it is rounded up, so that at least this share stays."""
        return math.ceil(self.share * numel) if self.count is None else floor_of(numel, self.count)
