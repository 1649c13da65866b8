"""How many weights to keep: sparsities and minimums as exact integers, and the error when they cannot be met."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from gpmt.core.budget.decimals import shortest_decimal
from gpmt.errors import BudgetError

Ratio = float | str | Fraction | Decimal


def exact_fraction(value: Ratio, *, what: str = "sparsity") -> Fraction:
    """Read a ratio by its decimal meaning: the float 0.9 is nine tenths, not its binary neighbour.

    Accepts int, float, ``Fraction``, ``Decimal`` and strings such as ``"0.9"``, ``"90%"`` and ``"9/10"``, and numbers
    of NumPy and tensors of one element, which mean the shortest decimal that their type rounds to them.
    Raises `BudgetError` for anything that is not a finite number; `what` names it there.

    >>> exact_fraction(0.9), exact_fraction("98.05%")
    (Fraction(9, 10), Fraction(1961, 2000))
    """
    if isinstance(value, Fraction):
        return value
    try:
        if isinstance(value, bool):
            raise ValueError
        text = str(value).strip() if isinstance(value, str | Decimal) else shortest_decimal(value)
        if text.endswith("%"):
            return Fraction(text[:-1].strip()) / 100
        return Fraction(text)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        raise BudgetError(
            f'{what} is {value!r}, but must be a number such as 0.9 or a string such as "90%"'
        ) from None


def parse_sparsity(value: Ratio) -> Fraction:
    """Read a sparsity, the fraction of the prunable weights to prune: at least 0 and below 1.

    >>> parse_sparsity("80%")
    Fraction(4, 5)
    """
    sparsity = exact_fraction(value)
    if not 0 <= sparsity < 1:
        hint = f'; for {value} % give {float(sparsity / 100):g} or "{value}%"' if 1 < sparsity < 100 else ""
        raise BudgetError(f"sparsity is {value}, but must be at least 0 and below 1{hint}")
    return sparsity


def parse_min_kept(value: int | str, numel: int, *, unit: str = "weights") -> int:
    """Read the minimum threshold σ: the number of weights that every tensor keeps.

    An int (or a string of digits) is that number; a string with a percent sign is a share of all `numel`
    prunable weights of the network, rounded down (not of one tensor; the papers' convention). `unit` names
    the values that are counted, for the error.

    >>> parse_min_kept("0.05%", 25_502_912)
    12751
    """
    remedy = (
        f'must be a whole number of {unit} such as 1000, or a share of all prunable {unit} such as "0.05%"'
    )
    if isinstance(value, str) and value.strip().endswith("%"):
        share = exact_fraction(value, what="min_kept")
        if not 0 <= share <= 1:
            raise BudgetError(f"min_kept is {value!r}, but a share must lie between 0% and 100%")
        return math.floor(share * numel)
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        raise BudgetError(f"min_kept is {value!r}, but {remedy}")
    try:
        count = int(value) if isinstance(value, str) else value.__index__()
    except (ValueError, TypeError, AttributeError):
        raise BudgetError(f"min_kept is {value!r}, but {remedy}") from None
    if count < 0:
        raise BudgetError(f"min_kept is {value!r}, but {remedy}")
    return count


def pruned_count(sparsity: Fraction, numel: int) -> int:
    """Return floor(sparsity · numel), the exact number of weights to prune."""
    return math.floor(sparsity * numel)


def floor_of(numel: int, min_kept: int) -> int:
    """Return the floor of one tensor, the number of weights that it keeps at least: min(numel, min_kept).

    >>> floor_of(500, 1000), floor_of(5000, 1000)
    (500, 1000)
    """
    return min(numel, min_kept)


def check_feasible(
    floors: Mapping[str, int],
    *,
    numel: int,
    sparsity: Fraction,
    minimum: str,
    where: str = "tensors",
    unit: str = "weights",
    of: str = "",
) -> None:
    """Raise `BudgetError` unless the floors fit into the number of weights that the sparsity keeps.

    Args:
        floors: the floor of each block, by name.
        numel: the weights of all blocks together.
        sparsity: what is asked for.
        minimum: the minimum, as the error says it.
        where: what has the floors, "tensors" or "blocks".
        unit: what is counted.
        of: which group of several it is, as the error says it.
    """
    kept = numel - pruned_count(sparsity, numel)
    needed = sum(floors.values())
    if needed <= kept:
        return
    most = sorted(floors, key=floors.__getitem__, reverse=True)[:3]
    named = ", ".join(f"{name} {floors[name]:,}" for name in most)
    raise BudgetError(
        f"sparsity {float(sparsity):g}{of} keeps {kept:,} of {numel:,} {unit}, but the minimum of {minimum} in each "
        f"of {len(floors)} {where} needs {needed:,} (most: {named}); ask for a "
        f"sparsity of at most {largest_sparsity(numel, needed)} or a smaller min_kept"
    )


def largest_sparsity(numel: int, needed: int) -> str:
    """Format (numel − needed) / numel, the largest sparsity that keeps `needed`, rounded down so that it does.

    >>> largest_sparsity(10_150, 210)
    '0.9793'
    """
    digits = 4
    while True:
        scale = 10**digits
        text = f"{Decimal((numel - needed) * scale // numel) / scale}"
        if Decimal(text) > 0 or needed == numel or digits > 12:
            return text
        digits += 2
