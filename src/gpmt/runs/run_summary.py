"""One run in short: its state, what it prunes, its accuracies, epochs and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast

from gpmt.formats.run_result import RECIPE
from gpmt.runs.files import Damaged, number, read_json, read_rows, read_yaml, section, text
from gpmt.runs.log import INTERRUPTED, LOG, STOPPED, ending, is_locked

State = Literal["finished", "running", "interrupted", "failed", "diverged", "damaged"]
METRICS, HISTORY = "metrics.json", "history.csv"
_PHASES = ("dense", "finetune")
_KILLED = "it ended without a word"


@dataclass(frozen=True)
class RunSummary:
    """What the files of one run tell in short; None and "" stand for what they do not tell.

    Attributes:
        path, title: its folder, and what its recipe is called.
        state: interrupted also where the run was stopped by its limits or killed; damaged where a file of it cannot
            be read.
        note: what is wrong, or how the run ended that has no result.
        model, data, seed: the names of network and data set, and the seed of the recipe.
        asked: the sparsity asked for, as written; the pattern N:M where there is one.
        sparsity: that of the last epoch, or as counted in the written file; a fraction.
        schedule, method, allocation, min_kept: how is pruned, as written.
        dense_top1: on the test data after the last dense epoch.
        top1: likewise after the last epoch of fine-tuning so far.
        epochs, total_epochs: finished, and those of the recipe.
        seconds: of all phases; of those so far where the run has no result.
        when: the end of a finished run, else the last change of its files; ISO 8601, with the offset.
    """

    path: Path
    title: str = ""
    state: State = "interrupted"
    note: str = ""
    model: str = ""
    data: str = ""
    seed: int | None = None
    asked: str = ""
    sparsity: float | None = None
    schedule: str = ""
    method: str = ""
    allocation: str = ""
    min_kept: str = ""
    dense_top1: float | None = None
    top1: float | None = None
    epochs: int | None = None
    total_epochs: int | None = None
    seconds: float | None = None
    when: str = ""

    @property
    def described(self) -> str:
        """Schedule and method, without hard, which is the default."""
        return "+".join(filter(None, (self.schedule, "" if self.method == "hard" else self.method)))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, ready for JSON."""
        return {"kind": "run", **asdict(self), "path": str(self.path)}


def read_run(path: Path) -> RunSummary:
    """Return what the files of a run tell; nothing is raised where one is missing, half-written or damaged."""
    summary = RunSummary(path, when=_changed(path))
    try:
        if (path / METRICS).exists():
            return _finished(summary, read_json(path / METRICS))
        summary = _with_settings(summary, read_yaml(path / RECIPE))
        rows = read_rows(path / HISTORY)
    except Damaged as damage:
        return replace(summary, state="damaged", note=str(damage))
    return _unfinished(summary, rows)


def _finished(summary: RunSummary, metrics: Mapping[str, Any]) -> RunSummary:
    recipe = section(metrics, "recipe")
    sparsity = number(metrics.get("sparsity"))
    if not recipe or sparsity is None:
        raise Damaged(f"{METRICS} is damaged: it does not hold what a run writes")
    summary = _with_settings(summary, recipe)
    seconds = [
        found for value in section(metrics, "seconds").values() if (found := number(value)) is not None
    ]
    return replace(
        summary,
        state="finished",
        note="" if metrics.get("verified") is True else f"NOT as promised, see its {METRICS}",
        sparsity=sparsity,
        dense_top1=number(section(metrics, "dense").get("top1")),
        top1=number(section(metrics, "finetuned").get("top1")),
        epochs=summary.total_epochs,
        seconds=sum(seconds) if seconds else None,
        when=text(metrics.get("finished")) or summary.when,
    )


def _unfinished(summary: RunSummary, rows: Sequence[Mapping[str, str]]) -> RunSummary:
    state, note = _state(summary.path / LOG)
    dense, finetune = ([row for row in rows if row.get("phase") == phase] for phase in _PHASES)
    sparsities = [found for row in finetune if (found := number(row.get("sparsity"))) is not None]
    trained = [row for row in rows if row.get("epoch") != "0"]
    return replace(
        summary,
        state=state,
        note=note,
        sparsity=sparsities[-1] if sparsities else None,
        dense_top1=_top1(dense[-1:]),
        top1=_top1([row for row in finetune if row in trained][-1:]),
        epochs=len(trained),
        seconds=sum(number(row.get("seconds")) or 0.0 for row in rows),
    )


def _state(log: Path) -> tuple[State, str]:
    if is_locked(log):
        return "running", ""
    word, rest = ending(log) or (INTERRUPTED, _KILLED)
    if word == STOPPED:
        return "interrupted", text(f"{STOPPED} {rest}")
    return cast("State", word), text(rest)


def _with_settings(summary: RunSummary, recipe: Mapping[str, Any]) -> RunSummary:
    prune, seed = section(recipe, "prune"), recipe.get("seed")
    if not prune:
        raise Damaged(f"{RECIPE} is damaged: it does not hold what a run writes")
    epochs = [section(recipe, phase).get("epochs") for phase in _PHASES]
    pattern = text(prune.get("pattern"))
    return replace(
        summary,
        title=text(recipe.get("title")),
        model=text(recipe.get("model")),
        data=text(section(recipe, "data").get("name")),
        seed=seed if isinstance(seed, int) else None,
        asked=pattern or text(prune.get("sparsity")),
        schedule=text(prune.get("schedule")),
        method=text(prune.get("method")),
        allocation=text(prune.get("allocation")),
        min_kept=text(prune.get("min_kept")),
        total_epochs=sum(count for count in epochs if isinstance(count, int)),
    )


def _top1(rows: Sequence[Mapping[str, str]]) -> float | None:
    """Return the accuracy that the last row reports: with batch norms recalibrated, where they were."""
    if not rows:
        return None
    recalibrated = number(rows[-1].get("recalibrated_top1"))
    return number(rows[-1].get("test_top1")) if recalibrated is None else recalibrated


def _changed(path: Path) -> str:
    """Return when the files of a run that change with every epoch were written last."""
    times = []
    for name in (LOG, HISTORY, RECIPE):
        try:
            times.append((path / name).stat().st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(max(times)).astimezone().isoformat(timespec="seconds") if times else ""
