"""Minimum thresholds: how many weights every block keeps at least, one rule for all or one for each pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpmt.core.budget.first_match import Named, first_matches
from gpmt.core.budget.minimum import OF_TENSOR, Minimum, is_automatic
from gpmt.errors import BudgetError

MinKept = int | str | Mapping[str, int | str]


@dataclass(frozen=True)
class Minimums:
    """The rules of a request; the first pattern that matches a block decides, and what none matches has no floor.

    Attributes:
        rules: pattern and minimum; the pattern None stands for every block.
    """

    rules: tuple[tuple[str | None, Minimum], ...]

    @classmethod
    def parse(cls, value: MinKept, *, total: int, unit: str = "weights", auto: int = 0) -> Minimums:
        """Read one minimum, or a mapping from pattern to minimum; `auto` is the number that "auto" stands for.

        Raises `BudgetError` for anything else.
        """
        if not isinstance(value, Mapping):
            return cls(((None, Minimum.parse(value, total=total, unit=unit, auto=auto)),))
        if not value:
            raise BudgetError("min_kept is an empty mapping; give a number, or a minimum for some pattern")
        for pattern, one in value.items():
            if is_automatic(one):
                raise BudgetError(
                    f'min_kept of {pattern} is "auto", which is one number for all; give it without a pattern, or '
                    "give numbers"
                )
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
                return f"{float(100 * minimum.share):g}% {OF_TENSOR}"
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
