"""A budget in multiply-accumulates (MACs), alone or with a sparsity.

A weight of block l takes c_l MACs, the same in all of the block. Kept are the weights with the largest sum of |w| (or
of scores) such that every floor holds, the MACs fit, and, with a sparsity, exactly K weights stay.

* MACs alone: beyond the floors, weights rank by |w| / c; the most that fit are kept.
* With a sparsity: weights rank by |w| − λc. The MACs of the K best fall as λ ≥ 0 grows; the smallest λ that is found
  to fit is taken.

Both are the solution of the relaxed problem, so that no mask that fits keeps more than λ · (budget − MACs) above what
is kept (weak duality); without ties the MACs that are left are fewer than those of one weight of the dearest block.
Sums of w² have another optimum: pass the squares as scores to rank by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from gpmt.core.budget.budget import exact_fraction
from gpmt.core.keys.keys import SCORE64, KeySource, key_value
from gpmt.core.keys.priced_keys import PricedKeys, less_price, per_price
from gpmt.core.selection.select import Selection, select
from gpmt.errors import BudgetError

MaxMacs = int | str
Macs = Mapping[str, Any] | Sequence[int] | Tensor
"""The MACs of each tensor by name, or an input of the network as `gpmt.macs.count_macs` takes it."""
AT_ONCE = 16
"""Totals that are tried in the same passes over the weights."""
TRIES = 200


@dataclass(frozen=True)
class MacsPlan:
    """What a plan with a budget in MACs takes.

    Attributes:
        dense: the MACs with all weights.
        budget: the most that the plan may take.
        kept: those of the weights that are kept, rounded up.
        price: λ, the magnitude (or score) that one more MAC would have to gain.
        gap: no other mask within the budget keeps a sum of magnitudes (or scores) that is larger by more than this.
    """

    dense: int
    budget: int
    kept: int
    price: float
    gap: float

    def __str__(self) -> str:
        return (
            f"{self.kept:,} MACs of at most {self.budget:,} ({self.kept / max(self.dense, 1):.3%} of "
            f"{self.dense:,}); no choice within the budget keeps a sum that is larger by more than {self.gap:.2g}"
        )

    def to_dict(self) -> dict[str, int | float]:
        """Return the plan as plain values, ready for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Choice:
    """A selection with the sources that it ranks, and λ."""

    sources: Sequence[KeySource]
    selection: Selection
    price: float


@dataclass(frozen=True)
class MacsProblem:
    """The blocks of a network with their MACs.

    Attributes:
        names: the blocks.
        values: what ranks the weights of each: weights, or scores.
        magnitudes: rank by |values|.
        macs: the MACs of each block with all its weights.
        floors: the number of weights that each keeps at least.
        budget: the most MACs.
    """

    names: Sequence[str]
    values: Sequence[Tensor]
    magnitudes: bool
    macs: Sequence[Fraction]
    floors: Sequence[int]
    budget: int

    @property
    def sizes(self) -> list[int]:
        """The number of weights of each block."""
        return [values.numel() for values in self.values]

    @property
    def prices(self) -> list[Fraction]:
        """The MACs of one weight of each block."""
        return [
            macs / size if size else Fraction(0) for macs, size in zip(self.macs, self.sizes, strict=True)
        ]

    def cost(self, kept: Sequence[int]) -> Fraction:
        """Return the MACs of numbers of weights."""
        return sum((price * count for price, count in zip(self.prices, kept, strict=True)), Fraction(0))

    def check(self, total: int | None) -> None:
        """Raise `BudgetError` where even the cheapest weights take more than the budget."""
        kept = list(self.floors)
        left = 0 if total is None else total - sum(kept)
        for place in sorted(range(len(kept)), key=lambda place: self.prices[place]):
            more = min(left, self.sizes[place] - kept[place])
            kept[place] += more
            left -= more
        if (needed := self.cost(kept)) > self.budget:
            what = (
                "the minimums need"
                if total is None
                else f"the cheapest {total:,} weights with the minimums need"
            )
            raise BudgetError(
                f"max_macs allows {self.budget:,} of {int(sum(self.macs)):,} MACs, but {what} "
                f"{-(-needed.numerator // needed.denominator):,}; raise max_macs"
                + ("" if total is None else " or the sparsity")
                + " or lower the minimum"
            )


def parse_max_macs(value: MaxMacs, dense: int) -> int:
    """Read a number of MACs, or a share of the `dense` ones, rounded down.

    >>> parse_max_macs("10%", 12_345), parse_max_macs(1000, 12_345)
    (1234, 1000)
    """
    remedy = 'must be a whole number of MACs, or a share such as "10%"'
    if isinstance(value, str) and value.strip().endswith("%"):
        share = exact_fraction(value, what="max_macs")
        if not 0 <= share <= 1:
            raise BudgetError(f"max_macs is {value!r}, but a share must lie between 0% and 100%")
        return int(share * dense)
    try:
        count = -1 if isinstance(value, bool) else int(value) if isinstance(value, str) else value.__index__()
    except (ValueError, AttributeError, TypeError):
        count = -1
    if count < 0:
        raise BudgetError(f"max_macs is {value!r}, but {remedy}")
    return count


def select_by_macs(problem: MacsProblem) -> Choice:
    """Choose the most weights that fit in the order of value / MACs."""
    problem.check(None)
    sources: list[KeySource] = [
        PricedKeys(name, values, per_price(float(price)), magnitudes=problem.magnitudes)
        for name, values, price in zip(problem.names, problem.values, problem.prices, strict=True)
    ]
    low, high = sum(problem.floors), sum(problem.sizes)  # the floors fit
    best = [_select(sources, problem, [low])[0]]
    while low < high:
        step = max(1, (high - low) // AT_ONCE)
        totals = list(dict.fromkeys([*range(low + step, high, step), high]))
        selections = _select(sources, problem, totals)
        fits = [problem.cost([cut.kept for cut in one.cuts]) <= problem.budget for one in selections]
        count = fits.index(False) if False in fits else len(fits)
        if count:
            low, best = totals[count - 1], [selections[count - 1]]
        high = totals[count] - 1 if count < len(totals) else low
    if low == sum(problem.sizes):
        return Choice(sources, best[0], 0.0)
    # The price of the first weight that does not fit.
    [following] = _select(sources, problem, [low + 1])
    price = 0.0 if following.key is None else key_value(following.key, SCORE64)
    return Choice(sources, best[0], price)


def select_by_both(problem: MacsProblem, total: int) -> Choice:
    """Choose exactly `total` weights with the largest sum of values that fits."""
    problem.check(total)

    def at(price: float) -> tuple[Choice, Fraction]:
        sources: list[KeySource] = [
            PricedKeys(name, values, less_price(price * float(each)), magnitudes=problem.magnitudes)
            for name, values, each in zip(problem.names, problem.values, problem.prices, strict=True)
        ]
        [selection] = _select(sources, problem, [total])
        return Choice(sources, selection, price), problem.cost([cut.kept for cut in selection.cuts])

    choice, cost = at(0.0)
    return choice if cost <= problem.budget else _smallest_price(at, cost, problem)


def _smallest_price(
    at: Callable[[float], tuple[Choice, Fraction]], cost: Fraction, problem: MacsProblem
) -> Choice:
    """Find a small λ whose selection fits: between one that does not and one that does, by secants and bisection."""
    dearest = max(problem.prices)
    low, low_cost, high = 0.0, cost, 1e-9
    choice, high_cost = at(high)
    while high_cost > problem.budget:
        low, low_cost, high = high, high_cost, high * 16
        if high > 1e300:
            raise BudgetError(
                f"max_macs allows {problem.budget:,} MACs, which weights of such sizes cannot be ranked by; raise it"
            )
        choice, high_cost = at(high)
    for turn in range(TRIES):
        if problem.budget - high_cost < dearest:
            break
        middle = low + (high - low) * float((low_cost - problem.budget) / (low_cost - high_cost))
        if turn % 2 or not low < middle < high:
            middle = (low * high) ** 0.5 if low else high / 16
        if not low < middle < high:
            break
        found, cost = at(middle)
        if cost <= problem.budget:
            high, high_cost, choice = middle, cost, found
        else:
            low, low_cost = middle, cost
    return choice


def described(problem: MacsProblem, choice: Choice) -> MacsPlan:
    """Return what a choice takes, with the bound on its distance to the optimum."""
    kept = problem.cost([cut.kept for cut in choice.selection.cuts])
    return MacsPlan(
        dense=int(sum(problem.macs)),
        budget=problem.budget,
        kept=-(-kept.numerator // kept.denominator),
        price=choice.price,
        gap=choice.price * float(problem.budget - kept) if choice.price else 0.0,
    )


def _select(sources: Sequence[KeySource], problem: MacsProblem, totals: Sequence[int]) -> list[Selection]:
    return select(sources, SCORE64, totals=totals, floors=problem.floors)
