"""Carrying out a sweep: its runs in processes, as many beside each other as wanted, and their results."""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gpmt.errors import RecipeError
from gpmt.training.run.progress import Reporter
from gpmt.training.sweep.child import Child
from gpmt.training.sweep.grid import Grid, Point
from gpmt.training.sweep.preflight import check_points
from gpmt.training.sweep.results import result_row, summarise, write_results
from gpmt.training.sweep.sweep_folder import SweepFolder

POLL_SECONDS = 0.1


class Interrupted(KeyboardInterrupt):
    """The user stopped the sweep; the text says how far it got."""


def sweep(
    grid: Grid, out: Path, *, jobs: int = 1, resume: bool = False, force: bool = False, command: str = ""
) -> dict[str, Any]:
    """Carry out all runs of `grid` in folders below `out`, and return the results.

    Every run is a ``gpmt run`` in a process of its own, also where `jobs`, the number of those beside each
    other, is 1: a crash ends one run, no run inherits anything from another, and each can be repeated by its
    command. The price is a start of some seconds. Runs with the same dense network share it: the first
    trains it, the others wait for it.

    With `resume` finished runs are kept, and those that were stopped go on; the grid may have grown. With
    `force` the runs in `out` are removed first. `command` is noted in sweep.json.

    Returns what results.json holds: ``runs``, ``summary`` (see `summarise`), ``failed`` (title, folder and the
    sentence that says why), ``axes``, ``total`` and ``title``. It is written after every run, so that a sweep that
    was stopped has the results so far; so are results.csv and summary.csv.

    What can be wrong with any recipe, data, checkpoint and budget is found before `out` is touched. Raises the
    subclasses of GpmtError, and `Interrupted` on Ctrl-C, once all runs are stopped. A run that fails does not
    stop the others.
    """
    if jobs < 1:
        raise RecipeError(f"jobs is {jobs}, but must be at least 1")
    folder, reporter = SweepFolder(out), Reporter()
    grid = folder.check(grid, resume=resume, force=force)
    reporter.line(f"{grid.base.title}: checking {len(grid.points)} runs")
    check_points([p for p in grid.points if force or not folder.run(p).metrics.exists()], reporter)
    with folder.locked() as keep:
        folder.start(grid, force=force, command=command)
        progress = _Progress(grid, folder, jobs, reporter, keep)
        try:
            progress.carry_out()
        except KeyboardInterrupt:
            raise Interrupted(f"after {progress.ended} of {len(grid.points)} runs") from None
        return progress.results()


class _Progress:
    """A sweep at work: which runs are done, which go on, and which wait."""

    def __init__(
        self, grid: Grid, folder: SweepFolder, jobs: int, reporter: Reporter, keep: Sequence[int]
    ) -> None:
        self.grid, self.folder, self.jobs, self.reporter, self.keep = grid, folder, jobs, reporter, keep
        self.rows: dict[str, dict[str, Any]] = {}  # both by the folder of the run
        self.failed: dict[str, str] = {}
        self.active: dict[str, Child] = {}
        self.trainers = self._choose_trainers()
        self._seconds: dict[bool, list[float]] = {
            True: [],
            False: [],
        }  # of runs with a dense training, without
        for point in grid.points:
            self._take_result(point)
        self.waiting = [point for point in grid.points if point.folder not in self.rows]

    @property
    def ended(self) -> int:
        """Runs that are finished or failed."""
        return len(self.rows) + len(self.failed)

    def carry_out(self) -> None:
        """Start runs and wait for them, until none is left."""
        self.reporter.line(self._opening())
        write_results(self.folder.path, self.results())
        points = {point.folder: point for point in self.waiting}
        try:
            with self.reporter.console.status("") as status:
                while self.waiting or self.active:
                    self._start_what_can()
                    status.update(f"at work: {', '.join(points[name].title for name in self.active)}")
                    time.sleep(POLL_SECONDS)
                    for name in [name for name, child in self.active.items() if not child.running]:
                        self._end(points[name], self.active.pop(name))
        finally:
            for child in self.active.values():
                child.ask_to_end()
            for child in self.active.values():
                child.wait_for_end()

    def results(self) -> dict[str, Any]:
        """Return all that is known so far."""
        axes, points = self.grid.axes, self.grid.points
        rows = [self.rows[point.folder] for point in points if point.folder in self.rows]
        return {
            "title": self.grid.base.title,
            "axes": list(axes),
            "total": len(points),
            "runs": rows,
            "summary": summarise(rows, axes),
            "failed": [
                {"run": point.title, "folder": point.folder, "error": self.failed[point.folder]}
                for point in points
                if point.folder in self.failed
            ],
        }

    def _choose_trainers(self) -> dict[str, Point]:
        """Return, for every run whose dense network comes from a run of this sweep, that run.

        It is the run itself where it trains the network: one that has it already, else the first that wants it.
        """
        trainers: dict[str, Point] = {}
        for point in sorted(self.grid.points, key=lambda point: not self._has_dense(point)):
            if point.dense_identity is not None:
                trainers.setdefault(point.dense_identity, point)
        return {
            p.folder: trainers[p.dense_identity] for p in self.grid.points if p.dense_identity is not None
        }

    def _has_dense(self, point: Point) -> bool:
        run = self.folder.run(point)
        return run.dense.exists() and (run.metrics.exists() or run.state.exists())

    def _trains_dense(self, point: Point) -> bool:
        return self.trainers.get(point.folder) is point

    def _start_what_can(self) -> None:
        """Fill the free places with waiting runs whose dense network there is, or who train it."""
        for point in list(self.waiting):
            trainer = self.trainers.get(point.folder, point)
            if trainer is not point and not self._has_dense(trainer):
                if trainer.folder in self.failed:
                    self.waiting.remove(point)
                    self._fail(point, f"its dense network was to come from {trainer.title}, which failed")
                continue
            if len(self.active) < self.jobs:
                self.waiting.remove(point)
                self._start(point, trainer)

    def _start(self, point: Point, trainer: Point) -> None:
        out = self.folder.run(point).path
        arguments = [str(self.folder.recipe), *point.overrides, "--out", str(out), "--resume"]
        if trainer is not point:
            arguments += ["--dense-from", str(self.folder.run(trainer).path)]
        slot = min(set(range(self.jobs)) - {child.slot for child in self.active.values()})
        self.active[point.folder] = Child(
            arguments, log=self.folder.log(point), slot=slot, jobs=self.jobs, keep=self.keep
        )

    def _end(self, point: Point, child: Child) -> None:
        """Note how a run ended."""
        if self._take_result(point):
            child.log.unlink()
            self._seconds[self._trains_dense(point)].append(child.seconds)
            row = self.rows[point.folder]
            broken = "" if row["verified"] else ", pruned weights NOT as promised"
            self._report(point, f"top-1 {row['finetuned_top1']:.2%}, {_duration(child.seconds)}{broken}")
        else:
            self._fail(point, child.failure())

    def _fail(self, point: Point, sentence: str) -> None:
        self.failed[point.folder] = sentence
        self._report(point, f"FAILED: {sentence}")

    def _report(self, point: Point, outcome: str) -> None:
        write_results(self.folder.path, self.results())
        left = self._seconds_left()
        remaining = "" if left is None else f"; about {_duration(left)} left"
        total = len(self.grid.points)
        self.reporter.line(f"run {self.ended} of {total}: {point.title}: {outcome}{remaining}")

    def _take_result(self, point: Point) -> bool:
        metrics = self.folder.run(point).finished()
        if metrics is not None:
            self.rows[point.folder] = result_row(point, metrics)
        return metrics is not None

    def _seconds_left(self) -> float | None:
        """Estimate the time to the end from the runs so far; None where nothing is left, or known."""
        mean = {kind: fmean(times) for kind, times in self._seconds.items() if times}
        left = 0.0
        for point in self.grid.points:
            if point.folder in self.rows or point.folder in self.failed or not mean:
                continue
            whole = mean.get(self._trains_dense(point), next(iter(mean.values())))
            child = self.active.get(point.folder)
            left += whole if child is None else max(0.0, whole - child.seconds)
        return left / self.jobs or None

    def _opening(self) -> str:
        counts = [f"{len({p.values[axis] for p in self.grid.points})} × {axis}" for axis in self.grid.axes]
        if names := {point.variant for point in self.grid.points} - {""}:
            counts.insert(0, f"{len(names)} × variant")
        dense = sum(self._trains_dense(point) and not self._has_dense(point) for point in self.waiting)
        return (
            f"{len(self.grid.points)} runs ({', '.join(counts)}) in {self.folder.path}: {len(self.rows)} finished, "
            f"{len(self.waiting)} to do, {dense} of them with dense training, {self.jobs} at a time"
        )


def _duration(seconds: float) -> str:
    """Format a time for reading.

    >>> _duration(23.4), _duration(840), _duration(9000)
    ('23 s', '14 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
