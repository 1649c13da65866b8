"""What the options of a command ask of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpmt import allocations
from gpmt.core.budget.budget import parse_sparsity
from gpmt.core.budget.minimum import Minimum
from gpmt.core.units.names import PLURALS, check_granularity
from gpmt.errors import BudgetError


def sparsity_of(values: list[str]) -> str | dict[str, str]:
    """Return the sparsity, or that of each pattern, that ``--sparsity`` gives; raise `BudgetError` for others.

    >>> sparsity_of(["90%"]), sparsity_of(["*.attn.*=0.8", "*=0.9"])
    ('90%', {'*.attn.*': '0.8', '*': '0.9'})
    """
    found = _by_pattern(values, "--sparsity", "0.9")
    for one in found.values() if isinstance(found, Mapping) else [found]:
        parse_sparsity(one)
    return found


def sparsities_of(values: list[str]) -> list[str]:
    """Return sparsities of the whole network to compare; raise `BudgetError` for others, and for those of patterns.

    >>> sparsities_of(["80%", "0.9"])
    ['80%', '0.9']
    """
    for value in values:
        if "=" in value:
            raise BudgetError(
                f"--sparsity is {value!r}, but --what-if compares sparsities of the whole network; leave out the "
                "pattern"
            )
        parse_sparsity(value)
    return values


def min_kept_of(values: list[str] | None, *, unit: str = "weights") -> str | dict[str, str]:
    """Return the minimum, or that of each pattern, that ``--min-kept`` gives; raise `BudgetError` for others.

    >>> min_kept_of(None), min_kept_of(["5% of tensor"]), min_kept_of(["*.attn.*=100"])
    ('0', '5% of tensor', {'*.attn.*': '100'})
    """
    found = _by_pattern(values or ["0"], "--min-kept", "100")
    for one in found.values() if isinstance(found, Mapping) else [found]:
        Minimum.parse(one, total=0, unit=unit)
    return found


def blocks_of(values: list[str] | None) -> dict[str, Any] | None:
    """Return how tensors divide, as ``--split`` says: labels or a number by pattern; raise `BudgetError` for others.

    >>> blocks_of(["*.qkv.weight=q,k,v", "*.experts.*=8", "fc=1"])
    {'*.qkv.weight': ('q', 'k', 'v'), '*.experts.*': 8, 'fc': None}
    """
    found: dict[str, Any] = {}
    for value in values or []:
        pattern, equals, parts = value.rpartition("=")
        labels = tuple(part.strip() for part in parts.split(","))
        if not equals or not pattern or not all(labels):
            raise BudgetError(
                f"--split is {value!r}, but must be a pattern and parts, such as '*.qkv.weight=q,k,v'"
            )
        if pattern in found:
            raise BudgetError(f"--split has {pattern!r} twice; leave one of them out")
        if len(labels) == 1 and not labels[0].isdecimal():
            raise BudgetError(
                f"--split is {value!r}, but one part is no division; give several labels, or a number"
            )
        found[pattern] = labels if len(labels) > 1 else (int(labels[0]) if labels[0] != "1" else None)
    return found or None


def plan_options(
    *,
    min_kept: list[str] | None,
    scope: list[str] | None,
    exclude: list[str] | None,
    split: list[str] | None,
    within: str,
    allocation: str,
    granularity: str,
    seed: int,
    pattern: str | None = None,
    max_macs: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of `gpmt.plan` besides target and sparsity, checked as far as possible without PyTorch."""
    return {
        "min_kept": min_kept_of(min_kept, unit=PLURALS[check_granularity(granularity)]),
        "scope": scope or None,
        "exclude": tuple(exclude or ()),
        "blocks": blocks_of(split),
        "within": within,
        "allocation": allocations.check_name(allocation),
        "granularity": granularity,
        "seed": seed,
        "pattern": pattern,
        "max_macs": max_macs,
    }


def with_macs(options: dict[str, Any], example: Any) -> dict[str, Any]:
    """Return the arguments of `gpmt.plan` with an input to count MACs with, where ``--max-macs`` needs it.

    Raises `BudgetError` where no network is known.
    """
    if options["max_macs"] is None:
        return options
    if example is None:
        raise BudgetError(
            "--max-macs needs the MACs of the network, which is not known; name it with --model"
        )
    return options | {"macs": example}


def _by_pattern(values: list[str], option: str, example: str) -> str | dict[str, str]:
    """Return the one value, or the value of each pattern, in the order given."""
    if len(values) == 1 and "=" not in values[0]:
        return values[0]
    found: dict[str, str] = {}
    for value in values:
        pattern, equals, one = value.rpartition("=")
        if not equals:
            raise BudgetError(
                f"{option} is {value} beside others; give each its pattern, such as '*={value}' for the rest"
            )
        if not pattern or not one.strip():
            raise BudgetError(
                f"{option} is {value!r}, but must be a pattern and a value, such as '*.attn.*={example}'"
            )
        if pattern in found:
            raise BudgetError(f"{option} has {pattern!r} twice; leave one of them out")
        found[pattern] = one.strip()
    return found
