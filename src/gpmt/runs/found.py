"""The runs under a folder, alone or together in a sweep or a comparison."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gpmt.errors import CheckpointError
from gpmt.formats.run_result import is_run, is_sweep
from gpmt.runs.files import Damaged, read_json, text
from gpmt.runs.log import NOT_FINITE, is_locked
from gpmt.runs.run_summary import RunSummary, State, read_run

SWEEP, RESULTS, COMPARISON, LOCK = "sweep.json", "results.json", "comparison.json", ".lock"


@dataclass(frozen=True)
class GridSummary:
    """A sweep or a comparison in short.

    Attributes:
        path, title: its folder, and what its recipe is called.
        runs: those that have a folder.
        total: all runs of the grid.
        state: finished when all runs are, or are infeasible; failed when any failed or diverged.
        note: what is wrong.
    """

    path: Path
    kind: Literal["sweep", "comparison"]
    title: str = ""
    runs: Sequence[RunSummary] = ()
    total: int = 0
    state: State = "interrupted"
    note: str = ""

    @property
    def finished(self) -> int:
        """Number of runs with a result."""
        return sum(run.state == "finished" for run in self.runs)

    @property
    def top1(self) -> float | None:
        """The best accuracy of its runs."""
        return max((run.top1 for run in self.runs if run.top1 is not None), default=None)

    @property
    def sparsity(self) -> float | None:
        """The highest sparsity of its runs."""
        return max((run.sparsity for run in self.runs if run.sparsity is not None), default=None)

    @property
    def when(self) -> str:
        """When a run of it ended or changed last."""
        return max((run.when for run in self.runs), default="")

    @property
    def seconds(self) -> float | None:
        """Time of all runs together."""
        times = [run.seconds for run in self.runs if run.seconds is not None]
        return sum(times) if times else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, ready for JSON."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "title": self.title,
            "state": self.state,
            "note": self.note,
            "finished": self.finished,
            "total": self.total,
            "seconds": self.seconds,
            "when": self.when,
            "runs": [run.to_dict() for run in self.runs],
        }


Found = RunSummary | GridSummary


def find_runs(folder: Path) -> Iterator[Found]:
    """Yield what is in a folder and below it, by name; links to folders and hidden folders are not followed.

    Raises:
        CheckpointError: there is no such folder.
    """
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise CheckpointError(f"{folder} {problem}; give one with runs in it or below it")
    for where, below, _ in os.walk(folder):
        path = Path(where)
        if is_sweep(path):
            yield read_grid(path)
        elif is_run(path):
            yield read_run(path)
        else:
            below[:] = sorted(name for name in below if not name.startswith("."))
            continue
        below.clear()


def read_grid(path: Path) -> GridSummary:
    """Return what the files of a sweep or a comparison tell, and those of its runs."""
    kind: Literal["sweep", "comparison"] = "comparison" if (path / COMPARISON).exists() else "sweep"
    summary = GridSummary(path, kind)
    try:
        document = read_json(path / SWEEP)
        runs = document.get("runs")
        if not isinstance(runs, list):
            raise Damaged(f"{SWEEP} is damaged: it does not hold what a sweep writes")
        failures = _failures(path)
    except Damaged as damage:
        return replace(
            summary, state="damaged", note=str(damage), runs=[read_run(p) for p in _run_folders(path)]
        )
    folders = [run.get("folder") for run in runs if isinstance(run, dict)]
    names = [name for name in folders if isinstance(name, str) and name == Path(name).name]
    running = is_locked(path / LOCK)
    read = [_read_run(path / name, None if running else failures.get(name)) for name in names]
    there = [run for run in read if run is not None]
    return replace(
        summary,
        title=text(document.get("title")),
        runs=there,
        total=len(names),
        state=_state(there, len(names) - _infeasible(path), running=running),
        note=_note(there),
    )


def _read_run(path: Path, failure: str | None) -> RunSummary | None:
    """Return a run of a sweep, which knows why the run failed even where that was killed; None before it starts."""
    if not is_run(path):
        if failure is None:
            return None
        run = RunSummary(path)
    else:
        run = read_run(path)
    if failure is None or run.state != "interrupted":
        return run
    return replace(run, state="diverged" if failure.startswith(NOT_FINITE) else "failed", note=failure)


def _state(runs: Sequence[RunSummary], total: int, *, running: bool) -> State:
    states = {run.state for run in runs}
    if running or "running" in states:
        return "running"
    if states & {"failed", "diverged"}:
        return "failed"
    if "damaged" in states:
        return "damaged"
    return "finished" if states <= {"finished"} and len(runs) >= total else "interrupted"


def _note(runs: Sequence[RunSummary]) -> str:
    """Say how many runs are in which state that is not as it should be, and of one what is wrong."""
    troubled = [run for run in runs if run.note and run.state != "interrupted"]
    if not troubled:
        return ""
    first = troubled[0]
    more = f", and {len(troubled) - 1} more" if len(troubled) > 1 else ""
    word = "" if first.state == "finished" else f" {first.state}"
    return f"{first.path.name}{word}: {first.note}{more}"


def _failures(path: Path) -> dict[str, str]:
    """Return why runs failed, by the name of the folder, as the sweep wrote it."""
    if not (path / RESULTS).exists():
        return {}
    failed = read_json(path / RESULTS).get("failed")
    entries = [entry for entry in failed if isinstance(entry, dict)] if isinstance(failed, list) else []
    return {text(entry.get("folder")): text(entry.get("error")) for entry in entries}


def _infeasible(path: Path) -> int:
    """Return how many runs of a comparison cannot be."""
    if not (path / RESULTS).exists():
        return 0
    infeasible = read_json(path / RESULTS).get("infeasible")
    return len(infeasible) if isinstance(infeasible, list) else 0


def _run_folders(path: Path) -> list[Path]:
    try:
        return sorted(below for below in path.iterdir() if is_run(below))
    except OSError:
        return []
