"""The epochs of a run, from its metrics or from history.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gpmt.errors import ReportError
from gpmt.report.content.documents import Document
from gpmt.report.content.subject import Epoch, Score, Stage

_PHASES = ("dense", "finetune")


def noted_history(history: Document) -> list[Epoch]:
    """Return the epochs as a run notes them: for each phase a list of rows, whose values may be nested.

    >>> noted_history(Document({"dense": [{"epoch": 0, "test": {"top1": 0.1}}]}))
    [Epoch(phase='dense', number=0, values={'test_top1': 0.1})]
    """
    return [
        _epoch(phase, row.count("epoch"), _flat(row.values))
        for phase in _PHASES
        for row in history.rows(phase)
    ]


def read_history(path: Path) -> list[Epoch]:
    """Return the epochs in history.csv, which a run writes after each. Raises `ReportError` for another file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("phase") in _PHASES]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReportError(
            f"{path} cannot be read ({error}); the run writes it anew after its next epoch"
        ) from None
    return [_epoch(str(row["phase"]), _whole(row.get("epoch")), row.items()) for row in rows]


def latest_score(history: Iterable[Epoch], stage: Stage, phase: str) -> Score | None:
    """Return the evaluation after the last epoch of a phase; None where the phase has not begun."""
    rows = [epoch.values for epoch in history if epoch.phase == phase and "test_top1" in epoch.values]
    if not rows:
        return None
    return _score(stage, {key.removeprefix("test_"): value for key, value in rows[-1].items()})


def noted_score(stage: Stage, score: Document) -> Score | None:
    """Return an evaluation as a run notes it; None where there is none."""
    return _score(stage, {key: score.number(key) for key in score.values}) if score else None


def _score(stage: Stage, values: Mapping[str, float | None]) -> Score:
    images = values.get("images")
    return Score(
        stage,
        values.get("top1"),
        values.get("top5"),
        values.get("loss"),
        None if images is None else int(images),
    )


def _epoch(phase: str, number: int | None, pairs: Iterable[tuple[str, Any]]) -> Epoch:
    values = {}
    for key, value in pairs:
        if key not in ("phase", "epoch") and (number_ := _as_number(value)) is not None:
            values[key] = number_
    return Epoch("dense" if phase == "dense" else "finetune", number or 0, values)


def _flat(row: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}_{inner}", each) for inner, each in value.items())
        else:
            yield key, value


def _as_number(value: Any) -> float | None:
    """Return a finite number, also from text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(text: Any) -> int:
    number = _as_number(text)
    return int(number) if number is not None and number >= 0 else 0
