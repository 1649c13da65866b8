"""A sensitivity as a JSON document, read strictly."""

from __future__ import annotations

import json
import math
import os
import re
from fractions import Fraction
from typing import Any

from gpmt.atomic import atomic_path
from gpmt.core.budget.budget import parse_sparsity, pruned_count
from gpmt.errors import CheckpointError, PlanError
from gpmt.planning.fields import Fields
from gpmt.planning.json_file import JsonFormat
from gpmt.sensitivities.result import BlockCurve, Cell, Measured, Sensitivity

FORMAT, VERSION = "gpmt-sensitivity", 1
_FILE = JsonFormat(
    "a sensitivity",
    FORMAT,
    VERSION,
    write="write one with gpmt sensitivity FILE --data DATA -o FILE",
    renew="measure again",
    error=CheckpointError,
)
_ANY_COUNT = 1 << 62


def save(sensitivity: Sensitivity, path: str | os.PathLike[str]) -> None:
    """Write a sensitivity; see `Sensitivity.save`."""
    document = {"format": FORMAT, "version": VERSION, **sensitivity.to_dict()}
    with atomic_path(path) as temporary:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def load(path: str | os.PathLike[str]) -> Sensitivity:
    """Read a sensitivity; see `Sensitivity.load`."""
    return _FILE.load(os.fspath(path), _read)


def _read(document: dict[str, Any]) -> Sensitivity:
    top = Fields(
        document,
        "the sensitivity",
        "format version samples recalibrated sparsities weights network settings dense blocks curves",
    )
    names = tuple(top.texts("blocks"))
    if not names or len(set(names)) < len(names):
        raise PlanError("blocks of the sensitivity must be the names of one or more blocks, each once")
    sparsities = tuple(_sparsity(text) for text in top.texts("sparsities"))
    if not sparsities or list(sparsities) != sorted(set(sparsities)):
        raise PlanError("sparsities of the sensitivity must be one or more, rising")
    network = top.text("network")
    if not re.fullmatch(r"[0-9a-f]{64}", network):
        raise PlanError(f"network of the sensitivity is {network[:80]!r}, but must be a SHA-256")
    dense = top.object("dense", "loss top1")
    found = Sensitivity(
        Measured(_loss(dense), _top1(dense)),
        tuple(_curve(curve, sparsities) for curve in top.objects("curves", "name weights cells")),
        names,
        sparsities,
        top.count("weights", _ANY_COUNT),
        top.count("samples", _ANY_COUNT),
        top.flag("recalibrated"),
        network,
        _settings(document["settings"]),
    )
    if tuple(curve.name for curve in found.curves) != names[: len(found.curves)]:
        raise PlanError("curves of the sensitivity must be those of its first blocks, in their order")
    cells = [cell for curve in found.curves for cell in curve.cells]
    if any((cell.top1 is None) != (found.dense.top1 is None) for cell in cells):
        raise PlanError("some cells of the sensitivity have an accuracy, and others have none; measure again")
    return found


def _curve(fields: Fields, sparsities: tuple[Fraction, ...]) -> BlockCurve:
    name, numel = fields.text("name"), fields.count("weights", _ANY_COUNT)
    fields.what = name
    cells = []
    for cell in fields.objects("cells", "loss top1 sparsity kept"):
        sparsity, kept = _sparsity(cell.text("sparsity")), cell.count("kept", numel)
        if kept < numel - pruned_count(sparsity, numel):
            raise PlanError(f"kept of {cell.what} is {kept:,}, which is fewer than its sparsity says")
        cells.append(Cell(_loss(cell), _top1(cell), sparsity, kept))
    if tuple(cell.sparsity for cell in cells) != sparsities:
        raise PlanError(f"the cells of {name} must be one for each of the sparsities")
    return BlockCurve(name, numel, tuple(cells))


def _sparsity(text: str) -> Fraction:
    if not re.fullmatch(r"\d{1,30}/\d{1,30}", text):
        raise PlanError(f'a sparsity is {text[:80]!r}, but must be a ratio such as "9/10"')
    return parse_sparsity(text)


def _loss(fields: Fields) -> float:
    value = fields.optional_number("loss")
    if value is None:
        raise PlanError(f"loss of {fields.what} is null, but must be a number")
    return value


def _top1(fields: Fields) -> float | None:
    value = fields.optional_number("top1")
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
        raise PlanError(f"top1 of {fields.what} is {value}, but must be from 0 to 1")
    return value


def _settings(values: Any) -> dict[str, str | int | None]:
    plain = isinstance(values, dict) and all(isinstance(one, str | int | None) for one in values.values())
    if not plain:
        raise PlanError("settings of the sensitivity must be an object of strings and whole numbers")
    return dict(values)
