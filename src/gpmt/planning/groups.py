"""Groups: the blocks that share one budget, and so one threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

from gpmt.core.budget.budget import Ratio, parse_sparsity, pruned_count
from gpmt.core.budget.first_match import Named, first_matches
from gpmt.core.budget.minimum import automatic_minimum
from gpmt.errors import BudgetError

Within = Literal["network", "tensor", "row"]
Sparsity = Ratio | Mapping[str, Ratio]


@dataclass(frozen=True)
class Budget:
    """A sparsity for the whole network, or one for each pattern.

    Attributes:
        rules: pattern and sparsity; the pattern None stands for every block.
    """

    rules: tuple[tuple[str | None, Fraction], ...]

    @classmethod
    def parse(cls, value: Any) -> Budget:
        """Read one sparsity, or a mapping from pattern to sparsity. Raises `BudgetError` for anything else."""
        if not isinstance(value, Mapping):
            return cls(((None, parse_sparsity(value)),))
        if not value:
            raise BudgetError(
                'sparsity is an empty mapping; give a pattern and its sparsity, such as {"*": 0.9}'
            )
        return cls(tuple((pattern, parse_sparsity(one)) for pattern, one in value.items()))


@dataclass(frozen=True)
class Group:
    """The blocks that share one budget.

    Attributes:
        label: what they have in common: a pattern, or the name of their tensor; None for the whole network.
        sparsity: the sparsity asked for.
        places: which blocks they are, by their place in the list of all.
    """

    label: str | None
    sparsity: Fraction
    places: tuple[int, ...]

    @property
    def of(self) -> str:
        """Name the group in an error."""
        return "" if self.label is None else f" of {self.label}"


def check_within(within: str) -> None:
    """Raise `BudgetError` for an unknown comparison group."""
    if within not in get_args(Within):
        raise BudgetError(f"within is {within!r}, but must be one of {', '.join(get_args(Within))}")


def divide(blocks: Sequence[Named], budget: Budget, within: Within) -> list[Group]:
    """Divide blocks into the groups that share a budget.

    Raises `BudgetError` for blocks that no pattern matches, and for patterns that decide nothing.
    """
    chosen = first_matches([pattern for pattern, _ in budget.rules], blocks, role="sparsity")
    left = [named.block for named, rule in zip(blocks, chosen, strict=True) if rule is None]
    if left:
        more = f" and {len(left) - 1:,} more blocks" if len(left) > 1 else ""
        raise BudgetError(
            f'no pattern of sparsity matches {left[0]}{more}; add "*" for the rest, with 0 to leave it dense'
        )
    places: dict[tuple[int, str | None], list[int]] = {}
    for place, (named, rule) in enumerate(zip(blocks, chosen, strict=True)):
        assert rule is not None
        places.setdefault((rule, named.tensors[0] if within == "tensor" else None), []).append(place)
    return [
        Group(tensor or budget.rules[rule][0], budget.rules[rule][1], tuple(members))
        for (rule, tensor), members in places.items()
    ]


def automatic_minimum_of(groups: Sequence[Group], sizes: Sequence[int]) -> int:
    """Return the minimum "auto" of blocks with these sizes: the smallest of those of their groups."""
    found = []
    for group in groups:
        numel = sum(sizes[place] for place in group.places)
        if numel:
            kept = numel - pruned_count(group.sparsity, numel)
            found.append(automatic_minimum(numel, kept, len(group.places)))
    return min(found, default=0)
