"""A plan as a JSON document: the request, and how many weights every block keeps. docs/plans.md describes it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from gpmt import allocations
from gpmt.atomic import atomic_path
from gpmt.core.blocks.blocks import MAX_BLOCKS, Blocks, Split
from gpmt.core.budget.budget import parse_sparsity, pruned_count
from gpmt.core.budget.minimum import Minimum
from gpmt.core.budget.minimums import Minimums
from gpmt.core.layers.axes import Axes
from gpmt.core.scope.coverage import Coverage, Outside
from gpmt.core.scope.judgement import Judgement
from gpmt.core.selection.nm import NM
from gpmt.core.selection.select import Cut
from gpmt.core.units.in_runs import InRuns
from gpmt.core.units.registry import unit_of
from gpmt.core.units.unit import Unit
from gpmt.errors import PlanError
from gpmt.formats.masks.hashes import structure_hash
from gpmt.planning.fields import Fields
from gpmt.planning.json_file import JsonFormat
from gpmt.planning.plan import Plan
from gpmt.planning.rows import BlockPlan, GroupPlan, TensorPlan

FORMAT, VERSION = "gpmt-plan", 1
_FILE = JsonFormat(
    "a plan",
    FORMAT,
    VERSION,
    write="write one with gpmt plan IN --sparsity RATIO -o plan.json",
    renew="use the gpmt that wrote it, or plan again",
    error=PlanError,
)
_DTYPES = ("float64", "float32", "float16", "bfloat16")
_WIDTH = 180
_ANY_COUNT = 1 << 62
_MINIMUM = r"\d{1,19}|\d{1,30}(/\d{1,30})?% of tensor"


def save(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a plan; see `Plan.save`."""
    if plan.scored:
        raise PlanError(
            "a plan that was ranked by scores cannot be saved, since its counts say nothing without them; save its "
            "masks with plan.masks().save, or the scores with gpmt.scores.save"
        )
    text = _text(to_document(plan))
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Plan:
    """Read a plan; see `Plan.load`."""
    return _FILE.load(os.fspath(path), from_document)


def _text(value: Any, indent: str = "") -> str:
    """Return JSON in which what fits a line is on one, so that a block can be edited in its line."""
    line = json.dumps(value, allow_nan=False, ensure_ascii=False)
    if len(indent) + len(line) <= _WIDTH or not isinstance(value, dict | list):
        return line
    deeper = f"{indent} "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_text(each, deeper)}" for key, each in value.items()]
        return f"{{\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}}}"
    return f"[\n{deeper}" + f",\n{deeper}".join(_text(each, deeper) for each in value) + f"\n{indent}]"


def to_document(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain values, ready for JSON."""
    groups = {id(block): number for number, group in enumerate(plan.groups) for block in group.blocks}
    return {
        "format": FORMAT,
        "version": VERSION,
        "structure": structure_hash({row.name: row.shape for row in plan.tensors}),
        "granularity": plan.granularity,
        "allocation": plan.allocation,
        "seed": plan.seed,
        "within": plan.within,
        "pattern": plan.pattern,
        "min_kept": [
            [pattern, f"{100 * rule.share}% of tensor" if rule.count is None else rule.count]
            for pattern, rule in plan.minimums.rules
        ],
        "scope": plan.judged.to_dict(),
        "outside": [
            {"name": row.name, "weights": row.numel, "reason": row.reason, "by_name": row.by_name}
            for row in plan.coverage.outside
        ],
        "numel": plan.numel,
        "kept": plan.kept,
        "groups": [
            {
                "label": group.label,
                "sparsity": str(group.sparsity),
                "kept": group.kept,
                "threshold": group.threshold,
            }
            for group in plan.groups
        ],
        "tensors": [
            {
                "name": row.name,
                "kind": row.kind,
                "shape": list(row.shape),
                "dtype": row.dtype,
                "end": row.end,
                "axes": {"output": row.axes.output, "stacked": row.axes.stacked, "told": row.axes.told},
                "aliases": list(plan.aliases.get(row.name, ())),
                "splits": [
                    {
                        "dim": split.dim,
                        "parts": list(split.parts),
                        "labels": list(split.labels),
                        "repeats": split.repeats,
                    }
                    for split in row.divided.splits
                ],
                "blocks": [
                    _block(block, groups[id(block)], ranked=plan.macs is None) for block in row.blocks
                ],
            }
            for row in plan.tensors
        ],
    }


def _block(block: BlockPlan, group: int, *, ranked: bool) -> dict[str, Any]:
    cut = None
    if ranked and block.cut is not None:  # the cuts of a budget in MACs are those of magnitudes per MAC
        cut = {"kept": block.cut.kept, "key": block.cut.key, "ties": block.cut.ties}
    return {
        "name": block.name,
        "group": group,
        "numel": block.numel,
        "kept": block.kept,
        "floor": block.floor,
        "binds": block.binds,
        "zero": block.zero,
        "cut": cut,
    }


def from_document(document: Mapping[str, Any]) -> Plan:
    """Return the plan of a document. Raises `PlanError` where it is not one, or its counts do not add up."""
    top = Fields(
        document,
        "the plan",
        "format version structure granularity allocation seed within pattern min_kept scope outside numel kept "
        "groups tensors",
    )
    unit = unit_of(top.text("granularity"))
    runs = _runs(top)
    allocation = allocations.check_name(top.text("allocation"))
    declared = [_Group(fields) for fields in top.objects("groups", "label sparsity kept threshold")]
    members: list[list[BlockPlan]] = [[] for _ in declared]
    tensors, aliases = [], {}
    for fields in top.objects("tensors", "name kind shape dtype end axes aliases splits blocks"):
        row, names = _tensor(fields, unit, members)
        tensors.append(row)
        if names:
            aliases[row.name] = names
    _check_names(tensors)
    if top.text("structure") != structure_hash({row.name: row.shape for row in tensors}):
        raise PlanError(
            "the names or shapes of its tensors were changed; edit the numbers that blocks keep alone"
        )
    groups = [
        group.planned(blocks, number, unit, by_runs=runs is not None)
        for number, (group, blocks) in enumerate(zip(declared, members, strict=True))
    ]
    if not groups:
        raise PlanError("groups is empty, but every plan has one at least")
    if runs is not None:
        _check_runs(runs, tensors, groups)
    for key in ("numel", "kept"):
        total = sum(getattr(row, key) for row in tensors)
        if total != top.count(key, _ANY_COUNT):
            raise PlanError(
                f"its blocks have {total:,} {unit.plural} ({key}) together, but its total says {document[key]:,}; "
                "correct the one or the other"
            )
    return Plan(
        tensors,
        groups,
        minimums=_minimums(document["min_kept"]),
        allocation=allocation,
        unit=unit,
        seed=top.count("seed", _ANY_COUNT),
        within=top.text("within"),
        pattern=top.optional_text("pattern"),
        aliases=aliases,
        judged=_judgement(top.object("scope", "by network why")),
        coverage=_coverage(top, tensors),
        make=None,
    )


class _Group:
    def __init__(self, fields: Fields) -> None:
        self.label = fields.optional_text("label")
        self.sparsity = parse_sparsity(fields.ratio("sparsity"))
        self.kept = fields.count("kept", _ANY_COUNT)
        self.threshold = fields.optional_number("threshold")

    def planned(self, blocks: list[BlockPlan], number: int, unit: Unit, *, by_runs: bool) -> GroupPlan:
        """Return the group with its blocks, of whose counts the sum must be its own."""
        name = f"group {number}" + ("" if self.label is None else f" ({self.label})")
        if not blocks:
            raise PlanError(f"no block belongs to {name}")
        kept, numel = sum(block.kept for block in blocks), sum(block.numel for block in blocks)
        if kept != self.kept:
            raise PlanError(
                f"the blocks of {name} keep {kept:,} {unit.plural} together, but its total says {self.kept:,}; "
                "correct the one or the other"
            )
        as_planned = by_runs or all(block.cut is not None for block in blocks)
        if as_planned or numel - kept == pruned_count(self.sparsity, numel):
            return GroupPlan(self.label, self.sparsity, tuple(blocks), self.threshold)
        return GroupPlan(self.label, Fraction(numel - kept, numel), tuple(blocks), None)


def _runs(top: Fields) -> InRuns | None:
    """Return what weights are compared with, where it is their row or a pattern."""
    pattern = top.optional_text("pattern")
    if pattern is None and top.text("within") != "row":
        return None
    return InRuns(None if pattern is None else NM.parse(pattern))


def _check_runs(runs: InRuns, tensors: list[TensorPlan], groups: list[GroupPlan]) -> None:
    """Raise `PlanError` unless every block keeps what its rows or the pattern keep."""
    sparsities = {block.name: group.sparsity for group in groups for block in group.blocks}
    for row in tensors:
        for block in row.blocks:
            length = runs.length(row.axes, block.shape)
            kept = block.numel // length * (length - pruned_count(sparsities[block.name], length))
            if block.kept != kept:
                raise PlanError(
                    f"{block.name} keeps {block.kept:,} weights in the plan, but with its sparsity and "
                    f"{'rows' if runs.pattern is None else f'pattern {runs.pattern}'} it keeps {kept:,}; plan again"
                )


def _tensor(fields: Fields, unit: Unit, members: list[list[BlockPlan]]) -> tuple[TensorPlan, tuple[str, ...]]:
    name, kind, dtype = fields.text("name"), fields.text("kind"), fields.text("dtype")
    fields.what = name
    if dtype not in _DTYPES:
        raise PlanError(f"{name} has dtype {dtype!r}, but must have one of {', '.join(_DTYPES)}")
    shape = tuple(fields.counts("shape"))
    if not 2 <= len(shape) <= 16 or 0 in shape:
        raise PlanError(f"{name} has shape {list(shape)}, but weights have two or more dimensions")
    divided = Blocks(tuple(_split(each) for each in fields.objects("splits", "dim parts labels repeats")))
    if len({split.dim for split in divided.splits}) < len(divided.splits):
        raise PlanError(f"two splits of {name} divide the same dimension")
    divided.check_shape(shape, name)
    axes = _axes(fields.object("axes", "output stacked told"), name, shape)
    unit.check(name, axes, shape)
    rows = fields.objects("blocks", "name group numel kept floor binds zero cut")
    if len(rows) > MAX_BLOCKS or len(rows) != len(divided):
        raise PlanError(f"{name} has {len(rows):,} blocks in the plan, but divides into {len(divided):,}")
    names, shapes = divided.names(name), divided.shapes(shape)
    blocks = tuple(
        _read_block(row, block, size, unit.count(axes, size), members)
        for row, block, size in zip(rows, names, shapes, strict=True)
    )
    end = fields.optional_text("end")
    if end not in (None, "first", "last"):
        raise PlanError(f"the end of {name} is {end!r}, but must be first, last or null")
    return TensorPlan(name, kind, shape, blocks, dtype, divided, end, axes), tuple(fields.texts("aliases"))


def _axes(fields: Fields, name: str, shape: tuple[int, ...]) -> Axes:
    axes = Axes(fields.count("output", 2), fields.flag("stacked"), fields.flag("told"))
    if axes.output not in ((1, 2) if axes.stacked else (0, 1)) or len(shape) < 2 + axes.stacked:
        raise PlanError(f"the outputs of {name} cannot be counted by dimension {axes.output}; plan again")
    return axes


def _split(fields: Fields) -> Split:
    return Split(
        fields.count("dim", 16),
        tuple(fields.counts("parts")),
        tuple(fields.texts("labels")),
        fields.count("repeats", _ANY_COUNT),
    )


def _read_block(
    fields: Fields, name: str, shape: tuple[int, ...], numel: int, members: list[list[BlockPlan]]
) -> BlockPlan:
    if fields.text("name") != name:
        raise PlanError(f"the plan has a block {fields.text('name')!r} where {name} belongs")
    fields.what = name
    if fields.count("numel", _ANY_COUNT) != numel:
        raise PlanError(
            f"{name} has numel {fields.values['numel']:,} in the plan, but its shape says {numel:,}"
        )
    kept = fields.count("kept", numel)
    floor, binds = fields.count("floor", numel), fields.flag("binds")
    cut = None
    if fields.values["cut"] is not None:
        where = fields.object("cut", "kept key ties")
        cut = Cut(where.whole("key"), where.count("ties", numel), where.count("kept", numel), binds)
        if cut.kept != kept:  # edited since
            cut, binds = None, False
    row = BlockPlan(name, shape, numel, kept, min(floor, kept), binds, fields.flag("zero"), cut)
    group = fields.count("group", _ANY_COUNT)
    if group >= len(members):
        raise PlanError(f"{name} belongs to group {group}, but the plan has {len(members)} groups")
    members[group].append(row)
    return row


def _check_names(tensors: list[TensorPlan]) -> None:
    seen: set[str] = set()
    for name in (block.name for row in tensors for block in row.blocks):
        if name in seen:
            raise PlanError(f"{name} is there twice")
        seen.add(name)
    if not seen:
        raise PlanError("it has no tensors")


def _minimums(rules: Any) -> Minimums:
    found = []
    for rule in rules if isinstance(rules, list) else [rules]:
        if not isinstance(rule, list) or len(rule) != 2 or not isinstance(rule[0], str | None):
            raise PlanError(f"min_kept has {rule!r}, but must be pairs of a pattern, or null, and a minimum")
        if not re.fullmatch(_MINIMUM, str(rule[1])):
            raise PlanError(f"min_kept has {rule[1]!r}, but must be a number, or such as '5% of tensor'")
        found.append((rule[0], Minimum.parse(rule[1], total=0)))
    if not found:
        raise PlanError("min_kept is empty; give [[null, 0]] for none")
    return Minimums(tuple(found))


def _judgement(fields: Fields) -> Judgement:
    by = fields.text("by")
    if by not in ("layers", "names"):
        raise PlanError(f"scope was judged by {by!r}, but must be by layers or names")
    return Judgement(
        "layers" if by == "layers" else "names",
        fields.optional_text("network"),
        fields.optional_text("why") or "",
    )


def _coverage(top: Fields, tensors: list[TensorPlan]) -> Coverage:
    outside = tuple(
        Outside(
            each.text("name"), each.count("weights", _ANY_COUNT), each.text("reason"), each.flag("by_name")
        )
        for each in top.objects("outside", "name weights reason by_name")
    )
    return Coverage(sum(row.weights for row in tensors), outside)
