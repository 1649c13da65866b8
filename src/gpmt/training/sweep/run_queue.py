"""The runs of a sweep in parallel processes: which wait, which run, and which have ended."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from gpmt.terminal.durations import duration
from gpmt.training.run.progress import Reporter
from gpmt.training.sweep.grid import Grid, Point
from gpmt.training.sweep.results import result_row, summarise, write_results
from gpmt.training.sweep.run_process import RunProcess
from gpmt.training.sweep.sweep_folder import SweepFolder

POLL_SECONDS = 0.1


class RunQueue:
    """The runs of a grid, at most `jobs` at a time.

    Attributes:
        rows: the results of finished runs, by the folder of the run.
        failed: why runs failed, likewise.
        active: the processes of the runs in progress, likewise.
        waiting: the runs not started yet.
        infeasible: which runs are left out of the grid, and why, as the results hold it.
        publish: is called with the results after every run.
        trainers: for every run whose dense network is trained in this sweep, the run that trains it.
    """

    def __init__(
        self,
        grid: Grid,
        folder: SweepFolder,
        jobs: int,
        reporter: Reporter,
        keep_open: Sequence[int],
        *,
        infeasible: Sequence[Mapping[str, str]] = (),
        publish: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self.grid, self.folder, self.jobs, self.reporter = grid, folder, jobs, reporter
        self.infeasible, self.publish = list(infeasible), publish
        self.rows: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}
        self.active: dict[str, RunProcess] = {}
        self.trainers = self._choose_trainers()
        self._keep_open = keep_open
        # Times of the runs that trained a dense network (True), and of those that did not.
        self._seconds: dict[bool, list[float]] = {True: [], False: []}
        for point in grid.points:
            self._take_result(point)
        self.waiting = [point for point in grid.points if point.folder not in self.rows]

    @property
    def ended(self) -> int:
        """Runs that are finished or failed."""
        return len(self.rows) + len(self.failed)

    def execute(self) -> None:
        """Start the runs and wait until all have ended."""
        self.reporter.line(self._overview())
        self._write()
        points = {point.folder: point for point in self.waiting}
        try:
            with self.reporter.console.status("") as status:
                while self.waiting or self.active:
                    self._start_ready_runs()
                    status.update(f"running: {', '.join(points[name].title for name in self.active)}")
                    time.sleep(POLL_SECONDS)
                    for name in [name for name, process in self.active.items() if not process.running]:
                        self._record_end(points[name], self.active.pop(name))
        finally:
            for process in self.active.values():
                process.terminate()
            for process in self.active.values():
                process.wait()

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
            "infeasible": self.infeasible,
        }

    def _write(self) -> None:
        results = self.results()
        write_results(self.folder.path, results)
        if self.publish is not None:
            self.publish(results)

    def _choose_trainers(self) -> dict[str, Point]:
        """Return, for every run whose dense network is trained in this sweep, the run that trains it.

        That is a run that has trained it already, else the first that needs it.
        """
        trainers: dict[str, Point] = {}
        for point in sorted(self.grid.points, key=lambda point: not self.folder.has_dense(point)):
            if point.dense_identity is not None:
                trainers.setdefault(point.dense_identity, point)
        return {
            p.folder: trainers[p.dense_identity] for p in self.grid.points if p.dense_identity is not None
        }

    def _trains_dense(self, point: Point) -> bool:
        return self.trainers.get(point.folder) is point

    def _start_ready_runs(self) -> None:
        """Start waiting runs whose dense network is ready or theirs to train, while slots are left."""
        for point in list(self.waiting):
            trainer = self.trainers.get(point.folder, point)
            if trainer is not point and not self.folder.has_dense(trainer):
                if trainer.folder in self.failed:
                    self.waiting.remove(point)
                    self._fail(point, f"its dense network was to come from {trainer.title}, which failed")
                continue
            if len(self.active) < self.jobs:
                self.waiting.remove(point)
                self._start(point, trainer)

    def _start(self, point: Point, trainer: Point) -> None:
        out = self.folder.run(point).path
        arguments = [str(self.folder.recipe), *point.overrides, "-o", str(out), "--no-report"]
        if self.folder.run(point).recipe.exists():
            arguments.append("--resume")
        if trainer is not point:
            arguments += ["--dense-from", str(self.folder.run(trainer).path)]
        slot = min(set(range(self.jobs)) - {process.slot for process in self.active.values()})
        self.active[point.folder] = RunProcess(
            arguments, log=self.folder.log(point), slot=slot, jobs=self.jobs, keep_open=self._keep_open
        )

    def _record_end(self, point: Point, process: RunProcess) -> None:
        """Take the result of a run that has ended, or why it has none."""
        if self._take_result(point):
            process.log.unlink()
            self._seconds[self._trains_dense(point)].append(process.seconds)
            row = self.rows[point.folder]
            unverified = "" if row["verified"] else ", pruned weights NOT as promised"
            self._report(point, f"top-1 {row['finetuned_top1']:.2%}, {duration(process.seconds)}{unverified}")
        else:
            self._fail(point, process.failure())

    def _fail(self, point: Point, sentence: str) -> None:
        self.failed[point.folder] = sentence
        self._report(point, f"FAILED: {sentence}")

    def _report(self, point: Point, outcome: str) -> None:
        self._write()
        left = self._seconds_left()
        remaining = "" if left is None else f"; about {duration(left)} left"
        total = len(self.grid.points)
        self.reporter.line(f"run {self.ended} of {total}: {point.title}: {outcome}{remaining}")

    def _take_result(self, point: Point) -> bool:
        metrics = self.folder.run(point).finished()
        if metrics is not None:
            self.rows[point.folder] = result_row(point, metrics)
        return metrics is not None

    def _seconds_left(self) -> float | None:
        """Estimate the time left from the runs so far; None where nothing is left, or no run has ended."""
        mean = {kind: fmean(times) for kind, times in self._seconds.items() if times}
        left = 0.0
        for point in self.grid.points:
            if point.folder in self.rows or point.folder in self.failed or not mean:
                continue
            whole = mean.get(self._trains_dense(point), next(iter(mean.values())))
            process = self.active.get(point.folder)
            left += whole if process is None else max(0.0, whole - process.seconds)
        return left / self.jobs or None

    def _overview(self) -> str:
        counts = [f"{len({p.values[axis] for p in self.grid.points})} × {axis}" for axis in self.grid.axes]
        if names := {point.variant for point in self.grid.points} - {""}:
            counts.insert(0, f"{len(names)} × variant")
        dense = sum(self._trains_dense(point) and not self.folder.has_dense(point) for point in self.waiting)
        return (
            f"{len(self.grid.points)} runs ({', '.join(counts)}) in {self.folder.path}: {len(self.rows)} finished, "
            f"{len(self.waiting)} to do, {dense} of them with dense training, {self.jobs} at a time"
        )
