"""Plan a pruning, and apply it: the front door for a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from gpmt.allocations.allocate import Allocation, allocate
from gpmt.core import key_loops
from gpmt.core.budget import Ratio, parse_min_kept, parse_sparsity
from gpmt.core.keys import KeyFormat, KeySource, key_value
from gpmt.core.patterns import Patterns
from gpmt.core.scope import Scope, find_scope
from gpmt.core.select import Selection, map_shares, thread_count
from gpmt.core.shards import whole
from gpmt.core.structure import Granularity, column_scores, counted, spread
from gpmt.errors import BudgetError, WeightsError
from gpmt.masks import Masks
from gpmt.torch_private import write_count

Target = nn.Module | Mapping[str, Tensor]


@dataclass(frozen=True)
class TensorPlan:
    """What a plan means for one tensor, in weights, or in columns where the plan prunes these.

    `floor` is the minimum it keeps, min(numel, min_kept); `binds` tells that the floor decided how many it
    keeps. `kind` is the class of its layer.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    numel: int
    kept: int
    floor: int
    binds: bool

    @property
    def pruned(self) -> int:
        """Number pruned."""
        return self.numel - self.kept

    @property
    def density(self) -> float:
        """Fraction kept."""
        return self.kept / self.numel if self.numel else 1.0


class Plan:
    """Which weights to prune, decided but not done: counts per tensor, and `masks` on request.

    Attributes:
        tensors: a `TensorPlan` for every tensor of the scope, in the order of the network.
        sparsity: the sparsity asked for, exact.
        numel, kept, pruned: weights in the scope, kept and pruned; pruned is floor(sparsity · numel).
        threshold: the magnitude of the smallest weight that the global ranking keeps; None where there is no
            global threshold.
        min_kept: the minimum threshold σ as a number of weights.
        allocation: how the total was shared among the tensors.
        granularity: "weight", or "column"; then `numel`, `kept`, `pruned`, `min_kept` and those of `tensors`
            count columns, and the threshold is a sum of magnitudes.
        unit: what is counted, "weights" or "columns".
    """

    def __init__(
        self,
        scope: Scope,
        sources: Sequence[KeySource],
        form: KeyFormat,
        selection: Selection,
        *,
        sparsity: Fraction,
        min_kept: int,
        allocation: Allocation,
        granularity: Granularity,
    ) -> None:
        self.sparsity, self.min_kept, self.allocation = sparsity, min_kept, allocation
        self.granularity, self.unit = granularity, counted(granularity)
        self.tensors = tuple(
            TensorPlan(
                name=name,
                kind=scope.kinds[name],
                shape=tuple(tensor.shape),
                numel=source.numel,
                kept=cut.kept,
                floor=(floor := min(min_kept, source.numel)),
                binds=cut.binds if allocation in ("exact", "random") else 0 < floor == cut.kept,
            )
            for (name, tensor), source, cut in zip(
                scope.tensors.items(), sources, selection.cuts, strict=True
            )
        )
        self.numel = sum(row.numel for row in self.tensors)
        self.kept = sum(row.kept for row in self.tensors)
        self.pruned = self.numel - self.kept
        ranked = selection.key is not None and allocation != "random"
        self.threshold = key_value(selection.key or 0, form) if ranked else None
        self.aliases = scope.aliases
        self._ranking: _Ranking | None = _Ranking(scope.tensors, sources, form, selection)
        self._masks: Masks | None = None

    def masks(self) -> Masks:
        """Return the masks; the first call computes them, with one pass over the weights.

        Raises `WeightsError` where the weights have changed between planning and this first call.
        """
        if self._masks is None and self._ranking is not None:
            packed, shapes = self._ranking.pack(), {row.name: row.shape for row in self.tensors}
            if self.granularity == "column":
                packed = {name: spread(columns, shapes[name]) for name, columns in packed.items()}
            self._masks = Masks(packed, shapes)
            self._ranking = None  # lets go of the weights
        assert self._masks is not None
        return self._masks

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, ready for JSON."""
        return {
            "sparsity": float(self.sparsity),
            "achieved_sparsity": self.pruned / self.numel,
            "granularity": self.granularity,
            self.unit: self.numel,
            "kept": self.kept,
            "pruned": self.pruned,
            "threshold": self.threshold,
            "min_kept": self.min_kept,
            "allocation": self.allocation,
            "tensors": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "shape": list(row.shape),
                    self.unit: row.numel,
                    "kept": row.kept,
                    "density": row.density,
                    "floor": row.floor,
                    "binds": row.binds,
                    "aliases": list(self.aliases.get(row.name, ())),
                }
                for row in self.tensors
            ],
        }

    def __str__(self) -> str:
        """Draw a table with one line a tensor; a floor that binds is marked with an asterisk."""
        rows = [("tensor", "shape", self.unit, "kept", "density")]
        for row in self.tensors:
            shape = "×".join(map(str, row.shape))
            mark = "*" if row.binds else " "
            rows.append((row.name, shape, f"{row.numel:,}", f"{row.kept:,}{mark}", f"{row.density:8.3%}"))
        rows.append(("total", "", f"{self.numel:,}", f"{self.kept:,} ", f"{self.kept / self.numel:8.3%}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                [
                    *(c.ljust(w) for c, w in zip(cells[:2], widths[:2], strict=True)),
                    *(c.rjust(w) for c, w in zip(cells[2:], widths[2:], strict=True)),
                ]
            )
            for cells in rows
        ]
        lines.append(self.summary())
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the totals as one sentence."""
        text = f"{self.pruned:,} of {self.numel:,} {self.unit} pruned ({self.pruned / self.numel:.4%})"
        if self.threshold is not None:
            text += f", global threshold {self.threshold:.6g}"
        if self.min_kept:
            binding = sum(row.binds for row in self.tensors)
            text += (
                f"; minimum {self.min_kept:,} a tensor, which binds in {binding} of {len(self.tensors)} (*)"
            )
        return text

    def __repr__(self) -> str:
        return f"<Plan: {self.summary()}>"


class _Ranking:
    """The weights that a plan is about and where each tensor is cut: what it takes to make the masks."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        sources: Sequence[KeySource],
        form: KeyFormat,
        selection: Selection,
    ) -> None:
        self._tensors, self._sources, self._form, self._cuts = tensors, sources, form, selection.cuts
        self._write_counts = [write_count(tensor) for tensor in tensors.values()]

    def pack(self) -> dict[str, Tensor]:
        """Return the packed masks by name."""
        for (name, tensor), count in zip(self._tensors.items(), self._write_counts, strict=True):
            if write_count(tensor) != count:
                raise WeightsError(_changed(name))
        packed: dict[int, Tensor] = {}

        def work(share: list[int]) -> None:
            for index in share:
                packed[index] = self._pack(index)

        map_shares(self._sources, work, thread_count(self._sources))
        return {name: packed[index] for index, name in enumerate(self._tensors)}

    def _pack(self, index: int) -> Tensor:
        source, cut = self._sources[index], self._cuts[index]
        bits = np.zeros((source.numel + 7) // 8, np.uint8)
        start, ties, above = 0, cut.ties, 0
        for keys in source.chunks():
            larger, tied = key_loops.pack_kept(
                keys, bits=self._form.bits, threshold=cut.key, ties=ties, packed=bits, start=start
            )
            start += len(keys)
            above += larger
            ties -= tied
        if above + cut.ties != cut.kept or ties:
            raise WeightsError(_changed(source.name))
        return torch.from_numpy(bits)


@overload
def plan(
    target: Target,
    *,
    sparsity: Ratio,
    min_kept: int | str = ...,
    scope: Patterns | None = ...,
    exclude: Patterns = ...,
    allocation: Allocation = ...,
    granularity: Granularity = ...,
    seed: int = ...,
) -> Plan: ...
@overload
def plan(
    target: Target,
    *,
    sparsity: list[Any] | tuple[Any, ...],
    min_kept: int | str = ...,
    scope: Patterns | None = ...,
    exclude: Patterns = ...,
    allocation: Allocation = ...,
    granularity: Granularity = ...,
    seed: int = ...,
) -> list[Plan]: ...
def plan(
    target: Target,
    *,
    sparsity: Ratio | list[Any] | tuple[Any, ...],
    min_kept: int | str = 0,
    scope: Patterns | None = None,
    exclude: Patterns = (),
    allocation: Allocation = "exact",
    granularity: Granularity = "weight",
    seed: int = 0,
) -> Plan | list[Plan]:
    """Decide which weights to prune, without changing anything.

    Args:
        target: a module, or a state_dict (name -> tensor). Where several processes share its tensors (`DTensor`, as
            FSDP2 makes them), all have to call this, and each gathers the prunable weights on its CPU.
        sparsity: fraction of the prunable weights to prune, at least 0 and below 1, as a number or as a string
            such as "90%"; exactly floor(sparsity · N) weights are pruned. Weights that are zero already
            come first. A list of sparsities gives a list of plans for the price of about one.
        min_kept: weights that every tensor keeps at least (a tensor with fewer keeps them all): an int, or a
            string such as "0.05%", percent of all prunable weights. The default 0 is plain global pruning.
        scope: patterns that choose the tensors to prune; by default all weights of convolution, linear,
            attention and recurrent layers, see `gpmt.find_scope`.
        exclude: patterns of tensors to leave alone; they do not count in the sparsity.
        allocation: "exact" (one global threshold with floors), "reference" (the authors' scripts), or a
            baseline: "uniform", "erk", "lamp", "random".
        granularity: "weight", or "column" to prune whole columns (the last dimension) of matrices, the smallest
            sums of |w| first. Sparsity and minimum then count columns: 0.5 prunes half of them, however long
            they are. All allocations but "erk" can be had.
        seed: for the allocation "random" only.

    Raises:
        BudgetError: a sparsity or minimum that is no valid number, or that no mask can satisfy.
        ScopeError: a pattern that matches nothing, nothing to prune, or columns of what is no matrix.
        WeightsError: NaN or infinite weights, or weights without data.

    >>> import torch, gpmt
    >>> weights = {"a.weight": torch.tensor([[4.0, -3.0, 2.0, 1.0]]), "b.weight": torch.tensor([[0.1, 0.2]])}
    >>> print(gpmt.plan(weights, sparsity=0.5, min_kept=1))
    tensor    shape  weights  kept   density
    a.weight  1×4          4    2    50.000%
    b.weight  1×2          2    1*   50.000%
    total                  6    3    50.000%
    3 of 6 weights pruned (50.0000%), global threshold 3; minimum 1 a tensor, which binds in 1 of 2 (*)
    """
    several = sparsity if isinstance(sparsity, list | tuple) else [sparsity]
    wanted = [parse_sparsity(value) for value in several]
    unit = counted(granularity)
    if granularity == "column" and allocation == "erk":
        raise BudgetError(
            'allocation "erk" shares single weights by the shapes of their tensors, so it has no meaning for '
            'granularity "column"; use "exact" or "uniform"'
        )
    found = find_scope(target, scope=scope, exclude=exclude, shared=True)
    found = replace(found, tensors={name: whole(tensor) for name, tensor in found.tensors.items()})
    ranked = column_scores(found.tensors) if granularity == "column" else found.tensors
    floor = parse_min_kept(min_kept, sum(tensor.numel() for tensor in ranked.values()), unit=unit)
    sources, form, selections = allocate(
        ranked, sparsities=wanted, min_kept=floor, allocation=allocation, seed=seed, unit=unit
    )
    plans = [
        Plan(
            found,
            sources,
            form,
            selection,
            sparsity=value,
            min_kept=floor,
            allocation=allocation,
            granularity=granularity,
        )
        for value, selection in zip(wanted, selections, strict=True)
    ]
    return plans if several is sparsity else plans[0]


def prune_(
    target: Target,
    *,
    sparsity: Ratio,
    min_kept: int | str = 0,
    scope: Patterns | None = None,
    exclude: Patterns = (),
    allocation: Allocation = "exact",
    granularity: Granularity = "weight",
    seed: int = 0,
) -> Plan:
    """Set the pruned weights of a module or state_dict to zero, in place, and return the plan.

    Takes the arguments of `plan` and raises the same errors, before anything is changed.

    >>> import torch, gpmt
    >>> layer = torch.nn.Linear(10, 10)
    >>> gpmt.prune_(layer, sparsity=0.9).pruned, int((layer.weight == 0).sum())
    (90, 90)
    """
    decided = plan(
        target,
        sparsity=sparsity,
        min_kept=min_kept,
        scope=scope,
        exclude=exclude,
        allocation=allocation,
        granularity=granularity,
        seed=seed,
    )
    decided.masks().apply_(target)
    return decided


def _changed(name: str) -> str:
    return f"the weights of {name} have changed since they were planned; plan again"
