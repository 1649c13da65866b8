"""A sweep from start to end: its checks, its runs, its results, and how it is interrupted."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpmt.errors import RecipeError
from gpmt.training.run.progress import Reporter
from gpmt.training.sweep.check_runs import check_runs
from gpmt.training.sweep.grid import Grid
from gpmt.training.sweep.run_queue import RunQueue
from gpmt.training.sweep.sweep_folder import SweepFolder


class Interrupted(KeyboardInterrupt):
    """The user stopped the sweep; the text says how far it got."""


def sweep(
    grid: Grid,
    out: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    force: bool = False,
    command: str = "",
    quiet: bool = False,
    kind: str = "sweep",
    infeasible: Mapping[str, str] | None = None,
    publish: Callable[[Mapping[str, Any]], None] | None = None,
    partial: bool = False,
) -> dict[str, Any]:
    """Carry out all runs of `grid` in folders below `out`, and return the results.

    Every run is a ``gpmt run`` in a process of its own, also where `jobs`, the number of parallel processes,
    is 1: a crash ends one run, no run inherits anything from another, and each can be repeated by its command.
    Starting a process costs some seconds. Runs with the same dense network share it: the first trains it, the
    others wait for it.

    With `resume` finished runs are kept and stopped runs are resumed; the grid may have grown. With
    `force` the runs in `out` are removed first. `command` is noted in sweep.json. With `quiet` no progress is shown.

    Returns what results.json holds: ``runs``, ``summary`` (see `summarise`), ``failed`` (title, folder and the
    sentence that says why), ``infeasible`` (likewise, of runs that were not started), ``axes``, ``total`` and
    ``title``. It is written after every run, so that a sweep that was stopped has the results so far; so are
    results.csv and summary.csv, and `publish` is called with them.

    `kind` is what errors call the sweep. `infeasible` says which runs to leave out and why, by their folders; who
    gives it has checked the runs. With `partial` and `resume` the grid may lack earlier runs, which are kept.

    Errors in any recipe, data, checkpoint or sparsity are raised before `out` is touched. Raises the subclasses
    of GpmtError, and `Interrupted` on Ctrl-C, once all runs are stopped. A run that fails does not stop the
    others.
    """
    if jobs < 1:
        raise RecipeError(f"jobs is {jobs}, but must be at least 1")
    folder, reporter = SweepFolder(out, kind, partial=partial), Reporter(quiet=quiet)
    grid = folder.check(grid, resume=resume, force=force)
    if infeasible is None:
        reporter.line(f"{grid.base.title}: checking {len(grid.points)} runs")
        unfinished = [p for p in grid.points if force or not folder.run(p).metrics.exists()]
        infeasible = check_runs(unfinished, reporter)
    left_out = [
        {"run": p.title, "folder": p.folder, "error": infeasible[p.folder]}
        for p in grid.points
        if p.folder in infeasible
    ]
    grid = replace(grid, points=tuple(p for p in grid.points if p.folder not in infeasible))
    if not force and (others := len(folder.left_out(grid))):
        reporter.line(f"{others:,} of the earlier runs in {out} not part of this {kind}; kept as they are")
    with folder.locked() as keep_open:
        folder.start(grid, force=force, command=command)
        queue = RunQueue(grid, folder, jobs, reporter, keep_open, infeasible=left_out, publish=publish)
        try:
            queue.execute()
        except KeyboardInterrupt:
            raise Interrupted(f"after {queue.ended} of {len(grid.points)} runs") from None
        return queue.results()
