"""What would come of several sparsities: one plan for each, all from the same passes over the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Unpack

from torch import Tensor, nn

from gpmt.core.budget.budget import Ratio, exact_fraction, floor_of, parse_sparsity
from gpmt.errors import BudgetError
from gpmt.html_tables import html_table
from gpmt.macs import count_macs, sparse_macs
from gpmt.model_tools import Example
from gpmt.planning.decide import check_request, decide
from gpmt.planning.options import PlanOptions
from gpmt.planning.plan import Plan
from gpmt.reachability.effective_sparsity import effective_sparsity

SPARSITIES = ("50%", "60%", "70%", "80%", "90%", "95%", "98%", "99%")
"""The sparsities that are shown where none are asked for."""

Target = nn.Module | Mapping[str, Tensor]


@dataclass(frozen=True)
class WhatIfRow:
    """What would come of one sparsity.

    Attributes:
        plan: the plan, in which blocks may be empty.
        empty: the blocks without a weight, those first that are the first to lose all as the sparsity rises.
        macs: multiply-accumulates that are left; None where they were not counted.
        effective: the sparsity that counts kept weights on no path from input to output as pruned; None where paths
            were not followed.
        min_kept: the smallest minimum for which every block keeps the share asked for; None where the sparsity has no
            room for it, and with rows that keep the same share, or another allocation than the exact one.
    """

    plan: Plan
    empty: tuple[str, ...]
    macs: int | None
    min_kept: int | None
    effective: float | None = None

    @property
    def sparsity(self) -> Fraction:
        """The sparsity asked for."""
        return self.plan.sparsity

    @property
    def binding(self) -> int:
        """Blocks in which the minimum decides."""
        return sum(block.binds for block in self.plan.blocks)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain values, ready for JSON."""
        return {
            "sparsity": float(self.sparsity),
            "kept": self.plan.kept,
            "pruned": self.plan.pruned,
            "network_sparsity": self.plan.network_sparsity,
            "threshold": self.plan.threshold,
            "empty": list(self.empty),
            "binding": self.binding,
            "macs": self.macs,
            "effective_sparsity": self.effective,
            "min_kept": self.min_kept,
        }


@dataclass(frozen=True)
class WhatIf:
    """What would come of several sparsities; ``str()`` is a table.

    Attributes:
        rows: one for each sparsity.
        at_least: the share of its weights that every block keeps with the `min_kept` of the rows.
        dense_macs: multiply-accumulates with all weights; None where they were not counted.
    """

    rows: tuple[WhatIfRow, ...]
    at_least: Fraction
    dense_macs: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain values, ready for JSON."""
        plan = self.rows[0].plan
        return {
            plan.unit: plan.numel,
            "granularity": plan.granularity,
            "blocks": len(plan.blocks),
            "min_kept": str(plan.minimums) if plan.min_kept is None else plan.min_kept,
            "at_least": float(self.at_least),
            "dense_macs": self.dense_macs,
            "scope": plan.judged.to_dict(),
            "coverage": plan.coverage.to_dict(),
            "rows": [row.to_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        lines = []
        for row in self.rows:
            text = f"{float(row.sparsity):.4%}: {row.plan.kept:,} {row.plan.unit} kept"
            if row.empty:
                more = f" and {len(row.empty) - 1:,} more" if len(row.empty) > 1 else ""
                text += f"; empty: {row.empty[0]}{more}"
            if row.min_kept is not None:
                text += f"; min_kept for {float(100 * self.at_least):g}% of every block: {row.min_kept:,}"
            lines.append(text)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        unit = self.rows[0].plan.unit
        heads = ["sparsity", f"{unit} kept", "empty blocks", "floors that bind"]
        heads += ["effective sparsity"] * (self.rows[0].effective is not None)
        heads += ["MACs left"] * (self.dense_macs is not None)
        heads += [f"min_kept for {float(100 * self.at_least):g} % of every block"]
        rows = [
            [
                f"{float(100 * row.sparsity):.6g} %",
                row.plan.kept,
                len(row.empty),
                row.binding,
                *([] if row.effective is None else [f"{100 * row.effective:.6g} %"]),
                *([] if row.macs is None else [row.macs]),
                "–" if row.min_kept is None else row.min_kept,
            ]
            for row in self.rows
        ]
        blocks, numel = len(self.rows[0].plan.blocks), self.rows[0].plan.numel
        return html_table(heads, rows, title=f"what if: {numel:,} {unit} in {blocks:,} blocks")


def what_if(
    target: Target,
    sparsities: Sequence[Ratio] | None = None,
    *,
    at_least: Ratio = "1%",
    paths: Example | None = None,
    **options: Unpack[PlanOptions],
) -> WhatIf:
    """Tell what would come of several sparsities, without changing anything.

    Args:
        target: a module or a state_dict; of a file, ``gpmt.load(path).state_dict``.
        sparsities: fractions of the prunable weights; by default from 50 % to 99 %, as far as these have room for
            the minimum.
        at_least: the share of its weights, such as "1%", that every block is to keep; each row has the smallest
            `min_kept` that does it.
        paths: an input of the network, along which paths are followed: each row then has its effective sparsity too,
            as `gpmt.effective_sparsity` defines it. It takes about as long as a step of training for each.
        options: those of `gpmt.plan`; with `macs`, the shape of one input or what `gpmt.macs.count_macs` returns, the
            multiply-accumulates that are left are told too.

    Raises the errors of `gpmt.plan`.

    >>> import torch, gpmt
    >>> weights = {"a.weight": torch.full((10, 10), 2.0), "b.weight": torch.ones(4, 5)}
    >>> print(gpmt.what_if(weights, ["50%", "90%"], at_least="10%"))
    50.0000%: 60 weights kept; empty: b.weight; min_kept for 10% of every block: 2
    90.0000%: 12 weights kept; empty: b.weight; min_kept for 10% of every block: 2
    """
    share = exact_fraction(at_least, what="at_least")
    if not 0 < share <= 1:
        raise BudgetError(f'at_least is {at_least}, but must be a share above 0, such as "1%"')
    wanted = sorted({parse_sparsity(value) for value in (SPARSITIES if sparsities is None else sparsities)})
    if not wanted:
        raise BudgetError("sparsities is empty; give some, such as [0.8, 0.9], or leave it out")
    if options.get("max_macs") is not None:
        raise BudgetError("what_if compares sparsities, so max_macs has no meaning for it; leave it out")
    if options.get("pattern") is not None:
        raise BudgetError("what_if compares sparsities, so pattern has no meaning for it; leave it out")
    macs = options.pop("macs", None)
    counts = _counts(target, macs)
    if sparsities is None:
        wanted = _with_room(target, wanted, options)
    plans = decide(target, wanted, **options)
    minimums = _least(target, wanted, plans, share, options)
    lost: dict[str, None] = {}
    rows = []
    for plan, minimum in zip(plans, minimums, strict=True):
        dead = {name: None for shortage in plan.shortages for name in shortage.dead}
        lost |= dead
        empty = tuple(name for name in lost if name in dead)
        left = None if counts is None else _left(plan, counts)
        rows.append(WhatIfRow(plan, empty, left, minimum, _effective(target, plan, paths)))
    dense = None if counts is None else sum(filter(None, counts.values()))
    return WhatIf(tuple(rows), share, dense)


def _with_room(target: Target, sparsities: Sequence[Fraction], options: PlanOptions) -> list[Fraction]:
    """Return the sparsities that have room for the minimum; raise the error of the smallest where none has."""
    found: list[Fraction] = []
    for sparsity in sparsities:
        try:
            check_request(target, sparsity=sparsity, **options)
        except BudgetError:
            if not found:
                raise
            break
        found.append(sparsity)
    return found


def _counts(target: Target, macs: Any) -> Mapping[str, int | None] | None:
    if macs is None or (isinstance(macs, Mapping) and not any(isinstance(v, Tensor) for v in macs.values())):
        return macs
    if not isinstance(target, nn.Module):
        raise BudgetError(
            "macs is an input, but no network is known to count the MACs with; give what gpmt.macs.count_macs returns"
        )
    return count_macs(target, macs)


def _effective(target: Target, plan: Plan, example: Example | None) -> float | None:
    """Return the effective sparsity of a plan, where an input is given to follow the paths along."""
    if example is None:
        return None
    if not isinstance(target, nn.Module):
        raise BudgetError(
            "paths is an input, but a state_dict has no network to follow it through; give a module"
        )
    return effective_sparsity(target, example, masks=plan.masks()).sparsity


def _left(plan: Plan, counts: Mapping[str, int | None]) -> int:
    rows = [(row, counts.get(row.name)) for row in plan.tensors]
    return sum(sparse_macs(macs, numel=row.numel, kept=row.kept) for row, macs in rows if macs is not None)


def _least(
    target: Target,
    sparsities: Sequence[Fraction],
    plans: Sequence[Plan],
    share: Fraction,
    options: PlanOptions,
) -> list[int | None]:
    """Return for each sparsity the smallest minimum for which every block keeps a share.

    Of the numbers that the blocks need, the smallest that is enough: between two of them nothing is gained, since a
    larger minimum only takes from the blocks above it. Most are known to be enough, or not, from the plans without a
    minimum; the others are tried.
    """
    if options.get("allocation", "exact") != "exact" or options.get("within") == "row":
        return [None] * len(plans)
    others: PlanOptions = options.copy()
    if any(plan.minimums for plan in plans):
        others["min_kept"] = 0
        plans = decide(target, sparsities, **others)
    searches = [_Search(plan, share) for plan in plans]
    while tried := sorted({search.unknown for search in searches if search.unknown is not None}):
        pending = [place for place, search in enumerate(searches) if search.unknown == tried[0]]
        others["min_kept"] = tried[0]
        again = decide(target, [sparsities[place] for place in pending], **others)
        for place, plan in zip(pending, again, strict=True):
            searches[place].told(all(kept >= need for kept, need in _needs(plan, share)))
    return [search.found for search in searches]


def _needs(plan: Plan, share: Fraction) -> list[tuple[int, int]]:
    """Return what each block keeps, and what it needs."""
    return [(block.kept, math.ceil(share * block.numel)) for block in plan.blocks]


class _Search:
    """The search for the smallest minimum of one plan: `unknown` is to be tried next; None when it has ended."""

    def __init__(self, plan: Plan, share: Fraction) -> None:
        self._groups = [
            [(block.numel, block.kept, math.ceil(share * block.numel)) for block in group.blocks]
            for group in plan.groups
        ]
        rows = [row for group in self._groups for row in group]
        short = max((need for _, kept, need in rows if kept < need), default=0)
        self._left = sorted({need for *_, need in rows if need >= short > 0}, reverse=True)
        self.found: int | None = None if short else 0
        self.unknown: int | None = None
        if short:
            self._next()

    def told(self, enough: bool) -> None:
        """Take in whether the minimum that was tried is enough."""
        if enough:
            self.found, self.unknown = self.unknown, None
        else:
            self._next()

    def _next(self) -> None:
        self.unknown = None
        if not self._left:
            return
        minimum = self._left.pop()
        if not all(self._has_room(group, minimum) for group in self._groups):
            return
        if all(self._is_enough(group, minimum) for group in self._groups):
            self.found = minimum
        else:
            self.unknown = minimum

    def _has_room(self, group: Sequence[tuple[int, int, int]], minimum: int) -> bool:
        return sum(floor_of(numel, minimum) for numel, *_ in group) <= sum(kept for _, kept, _ in group)

    def _is_enough(self, group: Sequence[tuple[int, int, int]], minimum: int) -> bool:
        # A minimum takes from the blocks above it what it gives to those below, from one block all of it at most.
        given = sum(max(0, floor_of(numel, minimum) - kept) for numel, kept, _ in group)
        return all(minimum >= need or kept - given >= need for _, kept, need in group)
