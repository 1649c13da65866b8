"""Verify rows and N:M patterns: what every run of weights keeps."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch

from gpmt.core.blocks.blocks import WHOLE
from gpmt.core.budget.budget import pruned_count
from gpmt.core.scope.scope import Scope
from gpmt.core.selection.nm import NM
from gpmt.core.shards import whole
from gpmt.core.units.in_runs import InRuns
from gpmt.errors import BudgetError
from gpmt.masks import Masks


class Runs:
    """What is asked of every row, or of every M inputs of an output.

    Raises `BudgetError` for a pattern that is not valid, another sparsity than that of a pattern, and rows without a
    sparsity.
    """

    def __init__(self, pattern: str | None, sparsity: Fraction | None, granularity: str) -> None:
        self._pattern = None if pattern is None else NM.parse(pattern)
        if self._pattern is not None and sparsity is not None:
            self._pattern.check_sparsity(sparsity)
        if granularity != "weight":
            raise BudgetError(
                f'rows and patterns are of single weights, so granularity "{granularity}" has no meaning with them; '
                "leave one of them out"
            )
        wanted = sparsity if self._pattern is None else self._pattern.sparsity
        if wanted is None:
            raise BudgetError('within="row" needs the sparsity that every row has; give sparsity')
        self._sparsity = wanted
        self._unit = InRuns(self._pattern)

    @torch.no_grad()
    def wrong(self, scope: Scope, masks: Masks | None) -> list[tuple[str, int, int]]:
        """Return the blocks in which runs keep too many weights: name, how many runs, and of how many.

        With masks it is what these keep, and too few are wrong too. A block whose inputs are no multiple of M is
        wrong in all.
        """
        found = []
        for name, tensor in scope.tensors.items():
            axes, shape = scope.axes[name], tuple(tensor.shape)
            self._unit.check(name, axes, shape)
            by_mask = masks is not None and name in masks
            kept = masks[name] if masks is not None and by_mask else whole(tensor).detach().ne(0)
            blocks = scope.blocks.get(name, WHOLE)
            names, shapes, views = blocks.names(name), blocks.shapes(shape), blocks.views(kept)
            for block, size, view in zip(names, shapes, views, strict=True):
                if self._pattern is not None and axes.sizes(size)[2] % self._pattern.of:
                    found.append((block, 1, 1))
                    continue
                length = self._unit.length(axes, size)
                counts = self._unit.arrange(axes, view.reshape(size)).reshape(-1, length).sum(1)
                most = length - pruned_count(self._sparsity, length)
                bad = int((counts != most if by_mask else counts > most).sum())
                if bad:
                    found.append((block, bad, len(counts)))
        return found

    def describe(self, wrong: Sequence[tuple[str, int, int]], limit: int = 5) -> str:
        """Return the result as a sentence."""
        what = "row" if self._pattern is None else f"{self._pattern.of} inputs"
        share = (
            f"sparsity {float(self._sparsity):g}" if self._pattern is None else f"the pattern {self._pattern}"
        )
        if not wrong:
            return (
                f"every {what} has {share}"
                if self._pattern is None
                else f"every {what} of an output have {share}"
            )
        names = ", ".join(f"{name} ({bad:,} of {runs:,})" for name, bad, runs in wrong[:limit])
        more = f" and {len(wrong) - limit} more" if len(wrong) > limit else ""
        groups = "rows do" if self._pattern is None else f"groups of {what} do"
        return f"{groups} not have {share} in {names}{more}"
