"""The authors' own scheme, kept for comparison: sparsities per tensor, multiplied and clipped until they fit.

It reproduces the masks of the authors' scripts on the same weights, with N in place of their N + 1 (their pool
of magnitudes starts with one uninitialised value), and with an error where the scripts would loop forever. Known
differences from the exact solution: the total is off by up to one weight a tensor (and by ties), a tensor of
exactly the minimum's size can be pruned, and scaling takes most from tensors that are already sparse.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gpmt.core.budget.budget import floor_of
from gpmt.core.keys.key_reader import count_above
from gpmt.core.keys.keys import KeyFormat, KeySource
from gpmt.core.selection.allocation import Allocation, Problem
from gpmt.core.selection.select import Cut, Selection, select
from gpmt.errors import BudgetError

MAX_ROUNDS = 10_000


class Reference(Allocation):
    """Cut every tensor as the authors' scripts do."""

    exact_total = False
    blocks = False  # the scripts know tensors only
    scores = False
    global_threshold = True

    def select(
        self, problem: Problem, sources: Sequence[KeySource], key_format: KeyFormat
    ) -> list[Selection]:
        """Select for each sparsity by itself; raise `BudgetError` where the scripts would never end."""
        if problem.min_kept is None:
            raise BudgetError(
                'allocation "reference" has one min_kept for all tensors; give a number, or a share such as "0.05%"'
            )
        return [
            select_as_scripts(sources, key_format, sparsity, problem.min_kept)
            for sparsity in problem.sparsities
        ]


def select_as_scripts(
    sources: Sequence[KeySource], key_format: KeyFormat, sparsity: Fraction, min_kept: int
) -> Selection:
    """Return the cuts of the scripts for one sparsity."""
    sizes = [source.numel for source in sources]
    target = float(sparsity)
    smallest = max(int(target * sum(sizes)), 1)  # the rank of the threshold, from the smallest magnitude
    rank = sum(sizes) - smallest + 1
    first = select(sources, key_format, totals=[rank], floors=[0] * len(sizes))[0]
    cuts = [_keep_ties(source, key_format, first.key, min_kept) for source in sources]
    if not min_kept:
        return Selection(tuple(cuts), first.key)
    sparsities = [1 - cut.kept / size for cut, size in zip(cuts, sizes, strict=True)]
    sparsities = refine(sparsities, sizes, target=target, min_kept=min_kept)
    ranks = [size - min(max(int(s * size), 1), size) + 1 for s, size in zip(sparsities, sizes, strict=True)]
    own = select(sources, key_format, totals=[sum(ranks)], floors=ranks)[0]
    cuts = [
        _keep_ties(source, key_format, cut.key, min_kept)
        for source, cut in zip(sources, own.cuts, strict=True)
    ]
    return Selection(tuple(cuts), None)


def refine(sparsities: Sequence[float], sizes: Sequence[int], *, target: float, min_kept: int) -> list[float]:
    """Scale per-tensor sparsities until their total is `target`, clipping each to leave `min_kept` weights.

    Raises `BudgetError` where the scripts would loop forever: a round changes nothing, and the total is still
    below the target, be it by a rounding error.

    >>> refine([0.8, 0.95], [1000, 9000], target=0.9, min_kept=100)
    [0.7700534759358291, 0.9144385026737969]
    """
    refined = [0.0 if size < min_kept else s for s, size in zip(sparsities, sizes, strict=True)]
    total = _total(refined, sizes)
    for _ in range(MAX_ROUNDS):
        if not total:
            break
        before, refined = refined, [s * target / total for s in refined]
        for index, size in enumerate(sizes):
            if size > min_kept and (1 - refined[index]) * size < min_kept:
                refined[index] = 1 - min_kept / size
        total = _total(refined, sizes)
        if total >= target:
            return refined
        if refined == before:
            break
    raise BudgetError(
        f'allocation "reference" cannot reach sparsity {target:g} with min_kept {min_kept:,}: the authors\' scaling '
        f'stays at {total!r} forever (clipped tensors, or rounding); use allocation "exact", which has no such case'
    )


def _total(sparsities: Sequence[float], sizes: Sequence[int]) -> float:
    return sum(s * size for s, size in zip(sparsities, sizes, strict=True)) / sum(sizes)


def _keep_ties(source: KeySource, key_format: KeyFormat, key: int | None, min_kept: int) -> Cut:
    """Cut at |w| >= threshold, so that all ties stay."""
    key = key or 0
    above, equal = count_above(source, key_format, key)
    kept = above + equal
    return Cut(key, equal, kept, binds=0 < kept == floor_of(source.numel, min_kept))
