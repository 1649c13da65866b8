"""What users call to plan a pruning and to apply it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack, overload

import torch
from torch import Tensor, nn

from gpmt import allocations
from gpmt.core.allocation import Allocation, Problem
from gpmt.core.budget import Ratio, parse_min_kept, parse_sparsity
from gpmt.core.keys import KeySource
from gpmt.core.missing_data import check_has_data
from gpmt.core.patterns import Patterns
from gpmt.core.reparametrised import KeysKeeping
from gpmt.core.scope import Scope, find_scope
from gpmt.core.select import Selection
from gpmt.core.shards import whole
from gpmt.core.structure import Granularity, check_matrices, column_scores, counted
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.options import PlanOptions
from gpmt.planning.plan import Plan
from gpmt.warning import warn

Target = nn.Module | Mapping[str, Tensor]
File = str | os.PathLike[str]


@overload
def plan(target: Target | File, *, sparsity: Ratio, **options: Unpack[PlanOptions]) -> Plan: ...
@overload
def plan(
    target: Target | File, *, sparsity: list[Any] | tuple[Any, ...], **options: Unpack[PlanOptions]
) -> list[Plan]: ...
def plan(
    target: Target | File,
    *,
    sparsity: Ratio | list[Any] | tuple[Any, ...],
    min_kept: int | str = 0,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    allocation: str = "exact",
    granularity: Granularity = "weight",
    seed: int = 0,
) -> Plan | list[Plan]:
    """Decide which weights to prune, without changing anything.

    Args:
        target: a module, a state_dict (name -> tensor), or the path of weights that `gpmt.load` reads.
            Where several processes share its tensors (`DTensor`, as FSDP2 makes them), all have to call this,
            and each gathers the prunable weights on its CPU.
        sparsity: fraction of the prunable weights to prune, at least 0 and below 1, as a number or as a string
            such as "90%"; exactly floor(sparsity · N) weights are pruned. Weights that are zero already
            come first. A list of sparsities gives a list of plans in about the time of one.
        min_kept: weights that every tensor keeps at least (a tensor with fewer keeps them all): an int, or a
            string such as "0.05%", percent of all prunable weights. The default 0 is plain global pruning.
        scope: patterns that choose the tensors to prune; by default all weights of convolution, linear,
            attention and recurrent layers, see `gpmt.find_scope`.
        exclude: patterns of tensors to leave alone; they do not count in the sparsity.
        allocation: "exact" (one global threshold with floors), "reference" (the authors' scripts), or a
            baseline: "uniform", "erk", "lamp", "random".
        granularity: "weight", or "column" to prune whole columns (the last dimension) of matrices, the smallest
            sums of |w| first. Sparsity and minimum then count columns: 0.5 prunes half of them, however long
            they are. All allocations but "erk" support it.
        seed: for the allocation "random" only.

    Raises:
        BudgetError: a sparsity or minimum that is not a valid number, or that no mask can satisfy.
        ScopeError: a pattern that matches nothing, nothing to prune, or columns of a tensor that is not a matrix.
        WeightsError: NaN or infinite weights, or weights without data.
        CheckpointError: a file that cannot be read, as from `gpmt.load`.

    Warns (`GpmtWarning`) of tensors that are left with no weight, of a first or last layer with less than half as
    many weights as outputs, and of tensors that are all zero already; the sentences are in `Plan.warnings` too.

    >>> import torch, gpmt
    >>> weights = {"a.weight": torch.tensor([[4.0, -3.0, 2.0, 1.0]]), "b.weight": torch.tensor([[0.1, 0.2]])}
    >>> print(gpmt.plan(weights, sparsity=0.5, min_kept=1))
    tensor    shape  weights  kept   density
    a.weight  1×4          4    2    50.000%
    b.weight  1×2          2    1*   50.000%
    total                  6    3    50.000%
    3 of 6 weights pruned (50.0000%), global threshold 3; minimum 1 a tensor, which binds in 1 of 2 (*)
    scope judged by name and shape, since no network is known
    """
    if isinstance(target, str | os.PathLike):
        from gpmt.formats.load import load

        target = load(target).state_dict
    several = sparsity if isinstance(sparsity, list | tuple) else [sparsity]
    plans = decide(
        target,
        several,
        min_kept=min_kept,
        scope=scope,
        exclude=exclude,
        allocation=allocation,
        granularity=granularity,
        seed=seed,
    )
    for text in (text for each in plans for text in each.warnings):
        warn(text)
    return plans if several is sparsity else plans[0]


def decide(
    target: Target,
    sparsities: Sequence[Ratio],
    *,
    min_kept: int | str = 0,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    allocation: str = "exact",
    granularity: Granularity = "weight",
    seed: int = 0,
) -> list[Plan]:
    """Return one plan for each sparsity, as `plan` does, but leave their warnings to the caller."""
    wanted = [parse_sparsity(value) for value in sparsities]
    unit, method = counted(granularity), _find_allocation(allocation, granularity)
    found = find_scope(target, scope=scope, exclude=exclude, shared=True)
    found = replace(found, tensors={name: whole(tensor) for name, tensor in found.tensors.items()})
    least = _least_kept(found, granularity)
    used = {
        name: found.effective[name].weight(tensor) if name in least else tensor
        for name, tensor in found.tensors.items()
    }
    ranked = column_scores(used) if granularity == "column" else used
    sigma = parse_min_kept(min_kept, sum(tensor.numel() for tensor in ranked.values()), unit=unit)
    problem = Problem(ranked, sparsities=wanted, min_kept=sigma, seed=seed, unit=unit, least=least)
    sources, key_format = method.keys(problem)
    sources = [
        KeysKeeping(source, found.effective[source.name].largest(used[source.name]), key_format)
        if source.name in least
        else source
        for source in sources
    ]
    selections = method.select(problem, sources, key_format)
    for selection in selections:
        _check_least(sources, selection, least)
    return [
        Plan(
            found,
            sources,
            key_format,
            selection,
            sparsity=value,
            min_kept=sigma,
            allocation=allocation,
            granularity=granularity,
            has_threshold=method.global_threshold,
        )
        for value, selection in zip(wanted, selections, strict=True)
    ]


def check_request(
    target: Target,
    *,
    sparsity: Ratio,
    min_kept: int | str = 0,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    allocation: str = "exact",
    granularity: Granularity = "weight",
    seed: int = 0,
) -> None:
    """Raise what `plan` would for this request, as far as names and shapes tell; no weight is read or sent."""
    wanted, unit = parse_sparsity(sparsity), counted(granularity)
    _find_allocation(allocation, granularity)
    found = find_scope(target, scope=scope, exclude=exclude, shared=True)
    tensors, least = found.tensors, _least_kept(found, granularity)
    check_has_data(tensors)
    if granularity == "column":
        check_matrices(tensors)
        tensors = {name: torch.empty(matrix.shape[1], device="meta") for name, matrix in tensors.items()}
    sigma = parse_min_kept(min_kept, sum(tensor.numel() for tensor in tensors.values()), unit=unit)
    Problem(tensors, sparsities=[wanted], min_kept=sigma, seed=seed, unit=unit, least=least)


def prune_(target: Target, *, sparsity: Ratio, **options: Unpack[PlanOptions]) -> Plan:
    """Set the pruned weights of a module or state_dict to zero, in place, and return the plan.

    Takes the arguments of `plan` and raises the same errors, before anything is changed.

    >>> import torch, gpmt
    >>> layer = torch.nn.Linear(10, 10)
    >>> gpmt.prune_(layer, sparsity=0.9).pruned, int((layer.weight == 0).sum())
    (90, 90)
    """
    if isinstance(target, str | os.PathLike):
        raise ScopeError(
            f"prune_ changes a network in place, but {os.fspath(target)!r} is the name of a file; write a pruned one "
            "with gpmt prune IN -o OUT, or load it first"
        )
    decided = plan(target, sparsity=sparsity, **options)
    decided.masks().apply_(target)
    return decided


def _least_kept(found: Scope, granularity: Granularity) -> dict[str, int]:
    """Return how many weights each tensor with norms keeps so that none of the norms becomes zero."""
    if found.effective and granularity == "column":
        raise ScopeError(
            f"{next(iter(found.effective))} is reparametrised, and whole columns are pruned of plain weights only; "
            "exclude it, or make it plain"
        )
    return {name: how.norms(found.tensors[name].shape) for name, how in found.effective.items()}


def _check_least(sources: Sequence[KeySource], selection: Selection, least: Mapping[str, int]) -> None:
    for source, cut in zip(sources, selection.cuts, strict=True):
        if cut.kept < least.get(source.name, 0):
            raise BudgetError(
                f"{source.name} would keep {cut.kept:,} weights, but has {least[source.name]:,} norms, which must "
                'not become zero; use the allocation "exact", or exclude it'
            )


def _find_allocation(name: str, granularity: Granularity) -> Allocation:
    """Return an allocation; refuse one that cannot share what the granularity counts."""
    found = allocations.find(name)
    if granularity == "column" and not found.columns:
        raise BudgetError(
            f'allocation "{name}" shares single weights only, so it has no meaning for granularity "column"; '
            'use "exact" or "uniform"'
        )
    return found
