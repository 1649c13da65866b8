"""N:M patterns: of every M consecutive inputs of one output, N weights stay."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from gpmt.errors import BudgetError


@dataclass(frozen=True)
class NM:
    """Of every `of` consecutive inputs of one output the `kept` largest stay.

    >>> NM.parse("2:4").sparsity
    Fraction(1, 2)
    """

    kept: int
    of: int

    @classmethod
    def parse(cls, value: str) -> NM:
        """Read "2:4". Raises `BudgetError` for anything else than two whole numbers N:M with 0 < N < M."""
        match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", value) if isinstance(value, str) else None
        if match is None or not 0 < int(match[1]) < int(match[2]):
            raise BudgetError(
                f'pattern is {value!r}, but must be N:M with 0 < N < M, such as "2:4" for two of every four weights'
            )
        return cls(int(match[1]), int(match[2]))

    @property
    def sparsity(self) -> Fraction:
        """The share of the weights that is pruned."""
        return 1 - Fraction(self.kept, self.of)

    def check_sparsity(self, sparsity: Fraction) -> None:
        """Raise `BudgetError` for another sparsity than that of the pattern."""
        if sparsity != self.sparsity:
            raise BudgetError(
                f"sparsity is {float(sparsity):g}, but pattern {self} prunes {self.of - self.kept} of every "
                f"{self.of} weights, which is {float(self.sparsity):g}; leave sparsity out, or give {self.sparsity}"
            )

    def __str__(self) -> str:
        return f"{self.kept}:{self.of}"
