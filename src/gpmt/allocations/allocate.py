"""Allocations: how the kept weights are shared among the tensors, and which weights of each they are.

``exact`` is the method: one global threshold with floors. ``reference`` is the authors' own approximation of it.
The others are the field's baselines. All but ``reference`` keep exactly the total, and all but ``random`` keep
the largest magnitudes of each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal, get_args

from torch import Tensor

from gpmt.allocations import baselines, reference
from gpmt.allocations.lamp import lamp_counts
from gpmt.core.budget import check_feasible, pruned_count
from gpmt.core.keys import KeyFormat, KeySource, MagnitudeKeys, key_format
from gpmt.core.select import Selection, select
from gpmt.errors import BudgetError, ScopeError

Allocation = Literal["exact", "reference", "uniform", "erk", "lamp", "random"]


def allocate(
    tensors: Mapping[str, Tensor],
    *,
    sparsities: Sequence[Fraction],
    min_kept: int,
    allocation: Allocation = "exact",
    seed: int = 0,
    unit: str = "weights",
) -> tuple[list[KeySource], KeyFormat, list[Selection]]:
    """Decide, for each sparsity, where every tensor is cut.

    Returns the key sources of the tensors, the format of their keys, and one `Selection` a sparsity. `unit` is
    what an element of a tensor stands for, for the errors.
    Raises `BudgetError` for an unknown allocation and for a minimum that the total cannot meet (before any
    weight is read), `WeightsError` for weights that cannot be ranked, `ScopeError` where there is no weight.
    """
    if allocation not in get_args(Allocation):
        raise BudgetError(
            f"allocation is {allocation!r}, but must be one of {', '.join(get_args(Allocation))}"
        )
    sizes = {name: tensor.numel() for name, tensor in tensors.items()}
    numel = sum(sizes.values())
    if not numel:
        raise ScopeError("there is no weight to prune: the scope holds no tensor with elements")
    for sparsity in sparsities:
        check_feasible(sizes, sparsity=sparsity, min_kept=min_kept, unit=unit)
    totals = [numel - pruned_count(sparsity, numel) for sparsity in sparsities]
    floors = [min(size, min_kept) for size in sizes.values()]
    form = key_format(tensors.values())
    sources: list[KeySource] = [MagnitudeKeys(name, tensor, form) for name, tensor in tensors.items()]

    if allocation == "exact":
        return sources, form, select(sources, form, totals=totals, floors=floors)
    if allocation == "random":
        form = baselines.RANDOM_FORMAT
        draws: list[KeySource] = [
            baselines.RandomKeys(source, seed, index) for index, source in enumerate(sources)
        ]
        return draws, form, select(draws, form, totals=totals, floors=floors)
    if allocation == "reference":
        return sources, form, [reference.select(sources, form, s, min_kept) for s in sparsities]
    if allocation == "lamp":
        counts = lamp_counts(tensors, totals=totals, floors=floors)
    else:
        shapes = [tuple(tensor.shape) for tensor in tensors.values()]
        counts = [getattr(baselines, f"{allocation}_counts")(shapes, total, floors) for total in totals]
    selections = [select(sources, form, totals=[sum(kept)], floors=kept)[0] for kept in counts]
    return sources, form, selections
