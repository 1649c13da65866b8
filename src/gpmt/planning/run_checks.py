"""What rows and N:M patterns ask of the blocks: lengths that fit, minimums and infinite scores that leave room."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch

from gpmt.core.budget.budget import largest_sparsity
from gpmt.core.selection.nm import NM
from gpmt.core.selection.runs import most_in_a_run
from gpmt.core.units.in_runs import InRuns
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.items import Item


def lengths_of(runs: InRuns, items: Sequence[Item]) -> list[int]:
    """Return the length of the runs of each block.

    Raises `ScopeError` where the inputs of a block are no multiple of that of a pattern.
    """
    if runs.pattern is not None:
        counts = [(item.tensor, item.axes.sizes(item.shape)[2]) for item in items]
        odd = {tensor: inputs for tensor, inputs in counts if inputs % runs.pattern.of}
        if odd:
            named = ", ".join(f"{name} ({count:,})" for name, count in list(odd.items())[:3])
            more = f" and {len(odd) - 3:,} more" if len(odd) > 3 else ""
            raise ScopeError(
                f"pattern {runs.pattern} needs a multiple of {runs.pattern.of} inputs, which these do not have: "
                f"{named}{more}; leave them out with exclude={list(odd)}"
            )
    return [runs.length(item.axes, item.shape) for item in items]


def check_run(
    item: Item, length: int, kept: int, *, floor: int, minimum: str, pattern: NM | None, sparsity: Fraction
) -> None:
    """Raise `BudgetError` where the minimum of a block is more than its runs keep.

    Args:
        item: the block.
        length: the length of its runs.
        kept: how many weights of each stay.
        floor: the minimum of the block; that of all its rows together without a pattern.
        minimum: the minimum, as the error says it.
        pattern: the pattern; None for rows.
        sparsity: what is asked for.
    """
    runs = item.numel // length
    if floor <= runs * kept:
        return
    if pattern is not None:
        raise BudgetError(
            f"pattern {pattern} keeps {runs * kept:,} of the {item.numel:,} weights of {item.name}, but the minimum "
            f"of {minimum} needs {floor:,}; ask for a smaller min_kept, or leave it out"
        )
    raise BudgetError(
        f"sparsity {float(sparsity):g} within rows keeps {kept:,} of the {length:,} weights of each row of "
        f"{item.name}, but the minimum of {minimum} needs {floor // runs:,}; ask for a sparsity of at most "
        f"{largest_sparsity(length, floor // runs)} or a smaller min_kept"
    )


def check_infinite_in_runs(item: Item, length: int, kept: int) -> None:
    """Raise `BudgetError` where a run has more scores of inf than it keeps, or of -inf than it prunes."""
    for infinite, room, always in (
        (torch.isposinf, kept, "kept"),
        (torch.isneginf, length - kept, "pruned"),
    ):
        most = most_in_a_run(infinite(item.values), length)
        if most > room:
            raise BudgetError(
                f"{most:,} of {length:,} scores that are compared with one another in {item.name} are "
                f"{'inf' if always == 'kept' else '-inf'}, which are always {always}, but only {room:,} can be; "
                "change the scores or the sparsity"
            )
