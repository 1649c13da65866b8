"""Verify a pruned network: count its zeros and compare them with the request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from gpmt.core.blocks.blocks import BlockRule
from gpmt.core.budget.budget import pruned_count
from gpmt.core.budget.first_match import Named
from gpmt.core.budget.minimum import is_automatic
from gpmt.core.budget.minimums import Minimums, MinKept
from gpmt.core.patterns import Patterns
from gpmt.core.scope.judgement import Judgement
from gpmt.core.scope.scope import find_scope
from gpmt.core.scope.tensor_count import BlockCount, TensorCount
from gpmt.core.units.names import Granularity
from gpmt.core.units.registry import unit_of
from gpmt.counting import count_blocks, count_tensors
from gpmt.errors import BudgetError, GpmtError
from gpmt.formats.load import load
from gpmt.html_tables import html_table
from gpmt.masks import Masks
from gpmt.model_tools import Example, plain_name
from gpmt.planning.groups import Budget, Sparsity, Within, automatic_minimum_of, check_within, divide
from gpmt.verification_groups import wrong_groups
from gpmt.verification_runs import Runs

if TYPE_CHECKING:
    from gpmt.reachability.effective_sparsity import EffectiveSparsity

Target = nn.Module | Mapping[str, Tensor] | str | os.PathLike[str]
Status = Literal["ok", "failed", "warning"]


@dataclass(frozen=True)
class Check:
    """One check and its result; a "warning" needs attention, but is not a failure."""

    name: str
    status: Status
    message: str

    @property
    def ok(self) -> bool:
        """False if the check failed."""
        return self.status != "failed"


@dataclass(frozen=True)
class Verification:
    """The result of `verify`: true if no check failed; ``str()`` is a report of one line a check.

    `numel`, `kept` and `pruned` count in the `unit`, such as "weights" or "columns"; `judged` is what told which
    tensors can be pruned, None where masks named them; `paths` is what `effective_sparsity` found, None where it was
    not asked for or cannot tell. `floors` are what blocks were to keep at least, by name; empty without a minimum.
    """

    checks: tuple[Check, ...]
    tensors: tuple[TensorCount, ...]
    granularity: Granularity = "weight"
    judged: Judgement | None = None
    paths: EffectiveSparsity | None = None
    floors: Mapping[str, int] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """The values that are counted, "weights" or "columns"."""
        return unit_of(self.granularity).plural

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(check.ok for check in self.checks)

    @property
    def numel(self) -> int:
        """Number of prunable weights or columns."""
        return sum(row.numel for row in self.tensors)

    @property
    def kept(self) -> int:
        """Number that is not zero."""
        return sum(row.kept for row in self.tensors)

    @property
    def pruned(self) -> int:
        """Number that is zero."""
        return self.numel - self.kept

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return {
            "ok": self.ok,
            "granularity": self.granularity,
            self.unit: self.numel,
            "kept": self.kept,
            "pruned": self.pruned,
            "sparsity": self.pruned / self.numel,
            "scope": None if self.judged is None else self.judged.to_dict(),
            "checks": [asdict(check) for check in self.checks],
            "tensors": [row.to_dict(unit=self.unit) for row in self.tensors],
            "paths": None if self.paths is None else self.paths.to_dict(),
        }

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "FAILED"
        lines = [f"{check.status}: {check.name}: {check.message}" for check in self.checks]
        return "\n".join([*lines, f"{verdict}: {self.pruned:,} of {self.numel:,} {self.unit} are zero"])

    def _repr_html_(self) -> str:
        verdict = "ok" if self.ok else "FAILED"
        return html_table(
            ["status", "check", "result"],
            [[check.status, check.name, check.message] for check in self.checks],
            title=f"{verdict}: {self.pruned:,} of {self.numel:,} {self.unit} are zero",
        )


def verify(
    target: Target,
    *,
    sparsity: Sparsity | None = None,
    min_kept: MinKept = 0,
    masks: Masks | str | os.PathLike[str] | None = None,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    blocks: Mapping[str, BlockRule] | None = None,
    granularity: Granularity = "weight",
    within: Within = "network",
    pattern: str | None = None,
    tolerance: int = 0,
    example: Example | None = None,
) -> Verification:
    """Check a pruned network against the request, weight by weight.

    Always: no weight is NaN or infinite, and no block is dead (all zero). A tensor with live weights in fewer
    than a tenth of its outputs is reported as collapsed, with a warning.

    Args:
        target: a module, a state_dict, or the path of a checkpoint. Where several processes share its tensors
            (`DTensor`, as FSDP2 makes them), all have to call this, and each gathers them one by one on its CPU.
        sparsity: the total asked for; exactly floor(sparsity · N) weights must be zero. With a mapping from pattern
            to sparsity, as `gpmt.plan` takes it, so many of every group.
        min_kept: the minimum threshold, as `gpmt.plan` takes it; every block must have that many weights that are
            not zero.
        masks: masks, or the path of a file of them. Every weight they prune must be zero. They take the place of
            the zeros in the checks of total and minimum, since a weight that is kept may be zero by itself; how
            many are is reported.
        scope: the patterns given when pruning; by default the tensors of the masks, or all prunable ones.
        exclude: the patterns of tensors that were left alone.
        blocks: as given when pruning: how tensors divide into blocks.
        granularity: as given when pruning; with "column", the total and the minimum count columns, and a column is
            zero if all its weights are; the same of rows, channels and vectors of four.
        within: "tensor" where every tensor was pruned to the sparsity, "row" where every row was; each is then
            checked, in place of the total and, for rows, of the minimum.
        pattern: the pattern N:M that was asked for, such as "2:4": of every M inputs of an output at most N weights
            are not zero (with masks, exactly N are kept).
        tolerance: weights (or columns, ...) by which the total may differ. Exact pruning needs none; give
            another than 0 for networks pruned by other tools.
        example: an input of the module; with one, `effective_sparsity` looks for dead outputs and for weights that
            are kept, but on no path from the input to the output. They are a warning, as is a network that it
            cannot follow.

    Raises:
        BudgetError: sparsity, min_kept or tolerance is not a valid number, or granularity is not known.
        CheckpointError, MaskError: a file that cannot be read, or masks of another network.
        GpmtError: an example without the network that takes it.
        ScopeError: a pattern that matches nothing, nothing prunable, or a tensor without such units.
        WeightsError: weights without data.

    >>> import gpmt
    >>> layer = nn.Linear(10, 10)
    >>> _ = gpmt.prune_(layer, sparsity=0.9, min_kept=5)
    >>> bool(verify(layer, sparsity=0.9, min_kept=5))
    True
    """
    budget = None if sparsity is None else Budget.parse(sparsity)
    wanted = None if budget is None or isinstance(sparsity, Mapping) else budget.rules[0][1]
    unit = unit_of(granularity).plural
    check_within(within)
    by_runs = pattern is not None or within == "row"
    if by_runs and isinstance(sparsity, Mapping):
        raise BudgetError("rows and patterns are verified with one sparsity; give a number")
    if within == "tensor" and budget is None:
        raise BudgetError('within="tensor" needs the sparsity that every tensor has; give sparsity')
    if is_automatic(min_kept) and (by_runs or budget is None):
        raise BudgetError(
            'min_kept is "auto", which follows from the sparsity of the whole network; give it, or a number'
        )
    runs = Runs(pattern, wanted, granularity) if by_runs else None
    if isinstance(tolerance, bool) or not isinstance(tolerance, int) or tolerance < 0:
        raise BudgetError(f"tolerance is {tolerance!r}, but must be a whole number of {unit}, at least 0")
    if example is not None and not isinstance(target, nn.Module):
        raise GpmtError("an example is of use only to a network; give the module, not its weights")
    if isinstance(target, str | os.PathLike):
        target = load(target).state_dict
    if isinstance(masks, str | os.PathLike):
        masks = Masks.load(Path(masks), of=target)
    elif masks is not None:
        masks.fits(target)
    if masks is not None and isinstance(target, Mapping) and not masks.keys() <= target.keys():
        target = {plain_name(name): tensor for name, tensor in target.items()}  # of a compiled network
    by_masks = masks is not None and scope is None and not exclude
    if masks is not None and by_masks:
        scope = list(masks)
    found = find_scope(target, scope=scope, exclude=exclude, blocks=blocks, shared=True)
    rows = count_tensors(found, masks, granularity=granularity)
    numel = sum(row.numel for row in rows)
    counts = count_blocks(rows)
    names = [
        Named(block.name, (row.name, *found.aliases.get(row.name, ())), row.kind)
        for row in rows
        for block in count_blocks([row])
    ]
    sizes = [block.numel for block in counts]
    auto = 0
    if is_automatic(min_kept) and budget is not None:
        auto = automatic_minimum_of(divide(names, budget, within), sizes)
    minimums = Minimums.parse(min_kept, total=numel, unit=unit, auto=auto)
    floors: list[int] = []
    checks = [_finite(rows), _dead(counts, len(rows)), _collapsed(rows)]
    if masks is not None:
        checks.append(_masked(rows, unit))
    if runs is not None:
        wrong = runs.wrong(found, masks)
        checks.append(Check("runs", "failed" if wrong else "ok", runs.describe(wrong)))
    elif wanted is not None and within == "network":
        checks.append(_total(rows, pruned_count(wanted, numel), numel, tolerance, unit))
    elif budget is not None:
        checks.append(_groups(*wrong_groups(budget, within, names, counts, tolerance=tolerance), unit))
    if minimums and within != "row":
        floors = minimums.floors(names, sizes)
        checks.append(_floors(counts, minimums, floors, unit))
    done = tuple(check for check in checks if check is not None)
    by_block = {block.name: floor for block, floor in zip(counts, floors, strict=False)}
    result = Verification(done, rows, granularity, None if by_masks else found.judged, floors=by_block)
    if example is None:
        return result
    assert isinstance(target, nn.Module)
    return add_paths(result, target, example, masks=masks, scope=scope, exclude=exclude, blocks=blocks)


def add_paths(
    result: Verification,
    model: nn.Module,
    example: Example,
    *,
    masks: Masks | None = None,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
    blocks: Mapping[str, BlockRule] | None = None,
) -> Verification:
    """Return a verification with the check of paths, for the network whose weights were verified."""
    from gpmt.reachability.effective_sparsity import effective_sparsity

    try:
        paths = effective_sparsity(
            model,
            example,
            masks=masks,
            scope=scope,
            exclude=exclude,
            blocks=blocks,
            granularity=result.granularity,
        )
    except GpmtError as error:
        return replace(result, checks=(*result.checks, Check("paths", "warning", f"cannot be told: {error}")))
    check = Check("paths", "ok" if paths.intact else "warning", str(paths))
    return replace(result, checks=(*result.checks, check), paths=paths)


def _finite(rows: tuple[TensorCount, ...]) -> Check:
    bad = [f"{row.name} ({row.not_finite:,})" for row in rows if row.not_finite]
    if bad:
        return Check("finite", "failed", f"NaN or infinite weights in {_first(bad)}")
    return Check("finite", "ok", "no weight is NaN or infinite")


def _dead(blocks: tuple[BlockCount, ...], tensors: int) -> Check:
    dead = [block.name for block in blocks if block.kept == 0]
    if dead:
        return Check("dead", "failed", f"no weight is left in {_first(dead)}")
    each = f"{tensors} tensors" if len(blocks) == tensors else f"{len(blocks):,} blocks of {tensors} tensors"
    return Check("dead", "ok", f"each of {each} has weights left")


def _collapsed(rows: tuple[TensorCount, ...]) -> Check | None:
    few = [f"{row.name} ({row.live_outputs:,} of {row.outputs:,})" for row in rows if row.collapsed]
    if few:
        return Check("collapsed", "warning", f"fewer than a tenth of the outputs are live in {_first(few)}")
    return None


def _masked(rows: tuple[TensorCount, ...], unit: str) -> Check:
    revived = [f"{row.name} ({row.revived:,})" for row in rows if row.revived]
    if revived:
        return Check("masks", "failed", f"weights that the masks prune are not zero in {_first(revived)}")
    zero = sum((row.kept_by_mask or 0) - row.kept for row in rows)
    pruned = sum(row.numel - (row.kept_by_mask or 0) for row in rows)
    message = f"all {pruned:,} {unit} that the masks prune are zero"
    if zero:
        message += f"; {zero:,} that they keep are zero too"
    return Check("masks", "ok", message)


def _total(rows: tuple[TensorCount, ...], wanted: int, numel: int, tolerance: int, unit: str) -> Check:
    pruned = sum(row.numel - (row.kept if row.kept_by_mask is None else row.kept_by_mask) for row in rows)
    message = f"{pruned:,} of {numel:,} {unit} are pruned"
    if abs(pruned - wanted) > tolerance:
        direction = "too few" if pruned < wanted else "too many"
        message += f", {abs(pruned - wanted):,} {direction} for the {wanted:,} asked for"
        return Check("total", "failed", message)
    return Check(
        "total", "ok", message + (f", as asked for, within {tolerance:,}" if tolerance else ", as asked for")
    )


def _groups(count: int, wrong: list[str], unit: str) -> Check:
    if wrong:
        return Check(
            "groups", "failed", f"other numbers of {unit} are pruned than asked for in {_first(wrong)}"
        )
    return Check("groups", "ok", f"in each of {count:,} groups as many {unit} are pruned as asked for")


def _floors(blocks: tuple[BlockCount, ...], minimums: Minimums, floors: list[int], unit: str) -> Check:
    low = []
    for block, floor in zip(blocks, floors, strict=True):
        kept = block.kept if block.kept_by_mask is None else block.kept_by_mask
        if kept < floor:
            low.append(f"{block.name} ({kept:,} of {floor:,})")
    if low:
        return Check("minimum", "failed", f"fewer {unit} are kept than the minimum in {_first(low)}")
    if minimums.one is None:
        return Check("minimum", "ok", f"every block keeps the {unit} of its minimum: {minimums}")
    each = "block" if any(block.part for block in blocks) else "tensor"
    return Check("minimum", "ok", f"every {each} keeps at least {minimums} {unit}, or all it has")


def _first(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
