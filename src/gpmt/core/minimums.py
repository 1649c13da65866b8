"""Minimum thresholds: how many weights every block keeps at least, one rule for all or one for each pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from gpmt.core.budget import exact_fraction, floor_of, parse_min_kept
from gpmt.core.first_match import Named, first_matches
from gpmt.errors import BudgetError

MinKept = int | str | Mapping[str, int | str]
_OF_TENSOR = "of tensor"


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
        if isinstance(value, str) and value.strip().endswith(_OF_TENSOR):
            text = value.strip().removesuffix(_OF_TENSOR).strip()
            share = exact_fraction(text, what="min_kept")
            if not (0 <= share <= 1 and text.endswith("%")):
                raise BudgetError(
                    f'min_kept is {value!r}, but a share of a tensor lies between "0% {_OF_TENSOR}" and '
                    f'"100% {_OF_TENSOR}"'
                )
            return cls(None, share)
        return cls(parse_min_kept(value, total, unit=unit))

    def floor(self, numel: int) -> int:
        """Return the floor of a block; a share of it is rounded up, so that at least this share stays."""
        return math.ceil(self.share * numel) if self.count is None else floor_of(numel, self.count)


@dataclass(frozen=True)
class Minimums:
    """The rules of a request; the first pattern that matches a block decides, and what none matches has no floor.

    Attributes:
        rules: pattern and minimum; the pattern None stands for every block.
    """

    rules: tuple[tuple[str | None, Minimum], ...]

    @classmethod
    def parse(cls, value: MinKept, *, total: int, unit: str = "weights") -> Minimums:
        """Read one minimum, or a mapping from pattern to minimum. Raises `BudgetError` for anything else."""
        if not isinstance(value, Mapping):
            return cls(((None, Minimum.parse(value, total=total, unit=unit)),))
        if not value:
            raise BudgetError("min_kept is an empty mapping; give a number, or a minimum for some pattern")
        return cls(tuple((key, Minimum.parse(one, total=total, unit=unit)) for key, one in value.items()))

    @property
    def one(self) -> int | None:
        """The number where one holds for every block; None otherwise."""
        [(pattern, minimum), *more] = self.rules
        return minimum.count if pattern is None and not more else None

    def __bool__(self) -> bool:
        return any(minimum.count is None or minimum.count for _, minimum in self.rules)

    def __str__(self) -> str:
        def shown(minimum: Minimum) -> str:
            if minimum.count is None:
                return f"{float(100 * minimum.share):g}% {_OF_TENSOR}"
            return f"{minimum.count:,}"

        return ", ".join(
            shown(minimum) if pattern is None else f"{pattern} {shown(minimum)}"
            for pattern, minimum in self.rules
        )

    def floors(self, blocks: Sequence[Named], sizes: Sequence[int]) -> list[int]:
        """Return the floor of each block, given its size. Raises `BudgetError` for a pattern that decides nothing."""
        chosen = first_matches([pattern for pattern, _ in self.rules], blocks, role="min_kept")
        return [
            0 if rule is None else self.rules[rule][1].floor(size)
            for rule, size in zip(chosen, sizes, strict=True)
        ]
