"""What users call to plan a pruning and to apply it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Unpack, overload

from gpmt.core.blocks.blocks import BlockRule
from gpmt.core.budget.budget import Ratio
from gpmt.core.budget.minimums import MinKept
from gpmt.core.patterns import Patterns
from gpmt.core.units.names import Granularity
from gpmt.errors import BudgetError, ScopeError
from gpmt.planning.decide import decide
from gpmt.planning.groups import Sparsity, Within
from gpmt.planning.macs_budget import Macs, MaxMacs
from gpmt.planning.options import PlanOptions
from gpmt.planning.plan import Plan
from gpmt.planning.request import Target
from gpmt.planning.scoring import Scores
from gpmt.warning import warn

File = str | os.PathLike[str]


@overload
def plan(
    target: Target | File, *, sparsity: Sparsity | None = None, **options: Unpack[PlanOptions]
) -> Plan: ...
@overload
def plan(
    target: Target | File, *, sparsity: list[Any] | tuple[Any, ...], **options: Unpack[PlanOptions]
) -> list[Plan]: ...
def plan(
    target: Target | File,
    *,
    sparsity: Ratio | Mapping[str, Ratio] | list[Any] | tuple[Any, ...] | None = None,
    min_kept: MinKept = 0,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    blocks: Mapping[str, BlockRule] | None = None,
    within: Within = "network",
    allocation: str = "exact",
    granularity: Granularity = "weight",
    seed: int = 0,
    pattern: str | None = None,
    scores: Scores | None = None,
    max_macs: MaxMacs | None = None,
    macs: Macs | None = None,
) -> Plan | list[Plan]:
    """Decide which weights to prune, without changing anything.

    A tensor may hold several layers, its *blocks*: queries, keys and values of a fused projection, the experts of a
    stack, the gates of an LSTM. Floors hold in every block, and counts are told for every block; a tensor that holds
    one layer is one block.

    Args:
        target: a module, a state_dict (name -> tensor), or the path of weights that `gpmt.load` reads.
            Where several processes share its tensors (`DTensor`, as FSDP2 makes them), all have to call this,
            and each gathers the prunable weights on its CPU.
        sparsity: fraction of the prunable weights to prune, at least 0 and below 1, as a number or as a string
            such as "90%"; exactly floor(sparsity · N) weights are pruned. Weights that are zero already
            come first. A mapping from pattern to sparsity makes groups, each exact and with a threshold of its own; a
            block belongs to the first pattern that matches it: ``{"*.attn.*": 0.8, "*": 0.9}``. A list of sparsities
            gives a list of plans in about the time of one.
        min_kept: weights that every block keeps at least (a block with fewer keeps them all): an int; a string such
            as "0.05%", percent of all prunable weights; "5% of tensor", percent of each block, rounded up; or a
            mapping from pattern to one of these, where the first match decides and the others have no minimum.
            "auto" is a number that fits the sparsity: 3/4 of what a block keeps on average, at most 4 % of what it
            has on average. The default 0 is plain global pruning.
        scope: patterns that choose the tensors to prune; by default all weights of convolution, linear,
            attention and recurrent layers, see `gpmt.find_scope`.
        exclude: patterns of tensors to leave alone; they do not count in the sparsity.
        blocks: how tensors divide into blocks, where `gpmt.find_scope` does not know it or is to be overruled:
            ``{"*.qkv.weight": ("q", "k", "v")}``.
        within: what is compared: "network"; "tensor", where every tensor has the sparsity and a threshold of its
            own; or "row", where of the n weights of every output (of a convolution, its filter) exactly
            floor(sparsity · n) are pruned, and `min_kept` is of each row (Wanda's groups, arXiv 2306.11695).
        allocation: "exact" (one global threshold with floors), "reference" (the authors' scripts), or a
            baseline: "uniform", "erk", "lamp", "random".
        granularity: what is pruned as one: "weight"; "row", all weights of one output (a row of a matrix, a filter
            of a convolution); "channel", all of one input; "column", an index along the last dimension of a matrix,
            whatever it counts; or "1x4", four consecutive inputs of one output, at the same tap of a convolution (the
            last ones may be fewer). The smallest sums of |w| are pruned first, and sparsity, minimum and counts are
            of these: 0.5 prunes half of the rows, however long they are. Rows and channels are those of each block.
            Where a convolution has groups, a channel holds one input of each group (of a transposed convolution, a
            row one output of each). All allocations but "erk" support it.
        seed: for the allocation "random" only.
        pattern: N:M, such as "2:4": of every M consecutive inputs of an output, at the same tap of a convolution, the
            N largest stay. The sparsity is 1 − N/M and can be left out; tensors whose inputs are no multiple of M
            have to be excluded.
        scores: what ranks the weights in place of |w|, the smallest are pruned first: a mapping from name to a
            floating tensor of the weight's shape on its device, or a function that is called with `target` and
            returns one, such as ``lambda model: gpmt.scores.taylor(model, batches)``. Scores rank as signed numbers;
            −inf is always pruned and inf never, which fails where it contradicts the sparsity or a minimum.
        max_macs: the most multiply-accumulates that one input may take, a number or a share of those of the prunable
            tensors such as "10%". Kept are the weights with the largest sum of |w| (the first power; give squares as
            scores for another) that fit, with a sparsity exactly as many as it says, and without one as many as fit.
            `Plan.macs` tells how far it may be from the best choice.
        macs: what the tensors take, as `gpmt.macs.count_macs` counts it, or an input of the module to count with,
            such as its shape (3, 224, 224).

    Raises:
        BudgetError: a sparsity or minimum that is not a valid number, or that no mask can satisfy.
        ScopeError: a pattern that matches nothing, nothing to prune, or a tensor without such units
            (columns of what is no matrix, rows of experts whose outputs are not known).
        WeightsError: NaN or infinite weights, or weights without data.
        ScoresError: scores that are missing, NaN, or of another shape, type or device than the weights.
        CheckpointError: a file that cannot be read, as from `gpmt.load`.

    Warns (`GpmtWarning`) of blocks that are left with no weight, of a first or last layer with less than half as
    many weights as outputs, and of blocks that are all zero already; the sentences are in `Plan.warnings` too.

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
        blocks=blocks,
        within=within,
        allocation=allocation,
        granularity=granularity,
        seed=seed,
        pattern=pattern,
        scores=scores,
        max_macs=max_macs,
        macs=macs,
    )
    for text in (text for each in plans for text in each.warnings):
        warn(text)
    return plans if several is sparsity else plans[0]


@overload
def prune_(target: Target, *, sparsity: Sparsity | None = None, **options: Unpack[PlanOptions]) -> Plan: ...
@overload
def prune_(target: Target, *, plan: Plan | File) -> Plan: ...
def prune_(
    target: Target,
    *,
    sparsity: Sparsity | None = None,
    plan: Plan | File | None = None,
    **options: Unpack[PlanOptions],
) -> Plan:
    """Set the pruned weights of a module or state_dict to zero, in place, and return the plan.

    Takes the arguments of `gpmt.plan` and raises the same errors, before anything is changed. In their place it takes
    a `plan`, or the path of one that `Plan.save` wrote: every block then keeps as many weights as there, the largest
    first. `PlanError` is raised where it does not fit the network; `notes` of the plan that is returned tell of
    weights with other values.

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
    if plan is None:
        decided = make_plan(target, sparsity=sparsity, **options)
    else:
        if sparsity is not None or options:
            given = ", ".join([*([] if sparsity is None else ["sparsity"]), *options])
            raise BudgetError(f"a plan says all that {given} would; leave them out, or the plan")
        decided = (plan if isinstance(plan, Plan) else Plan.load(plan)).bound(target)
    decided.apply_(target)
    return decided


make_plan = plan
"""`plan`, where an argument has its name."""
