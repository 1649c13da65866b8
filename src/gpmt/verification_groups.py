"""Verify groups of blocks that have a sparsity each: by pattern, or every tensor."""

from __future__ import annotations

from collections.abc import Sequence

from gpmt.core.budget.budget import pruned_count
from gpmt.core.budget.first_match import Named
from gpmt.core.scope.tensor_count import BlockCount
from gpmt.planning.groups import Budget, Within, divide


def wrong_groups(
    budget: Budget, within: Within, names: Sequence[Named], blocks: Sequence[BlockCount], *, tolerance: int
) -> tuple[int, list[str]]:
    """Return how many groups there are, and those in which another number is pruned, with both numbers.

    Args:
        budget: the sparsity of each pattern.
        within: "tensor" where every tensor is a group of its own.
        names: what patterns know of the blocks.
        blocks: their counts; with masks it is what these keep.
        tolerance: by how much a group may differ.

    Raises `BudgetError` for patterns that decide nothing, and blocks that none matches.
    """
    groups, wrong = divide(names, budget, within), []
    for group in groups:
        members = [blocks[place] for place in group.places]
        numel = sum(block.numel for block in members)
        kept = sum(block.kept if block.kept_by_mask is None else block.kept_by_mask for block in members)
        wanted = pruned_count(group.sparsity, numel)
        if abs(numel - kept - wanted) > tolerance:
            wrong.append(f"{group.label} ({numel - kept:,} for {wanted:,} of {numel:,})")
    return len(groups), wrong
