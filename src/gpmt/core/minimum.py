"""One minimum threshold: a number, a share of all weights that are ranked, or a share of each block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from gpmt.core.budget import exact_fraction, floor_of, parse_min_kept
from gpmt.errors import BudgetError

OF_TENSOR = "of tensor"


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
    def parse(cls, value: int | str, *, total: int, unit: str = "weights") -> Minimum:
        """Read a number, "0.05%" of the `total`, or "5% of tensor". Raises `BudgetError` for anything else."""
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
