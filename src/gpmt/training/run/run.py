"""One run of a recipe from start to end: its checks, its experiment, its metrics, and how it stops."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from gpmt.errors import GpmtError, first_line
from gpmt.runs.log import DIVERGED, FAILED, INTERRUPTED, NOT_FINITE, STOPPED, locked
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.devices import make_accelerator
from gpmt.training.run.experiment import Experiment
from gpmt.training.run.metrics import run_metrics
from gpmt.training.run.progress import Reporter
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.run.time_budget import TimeBudget, TimeBudgetSpent
from gpmt.training.run.trackers import Trackers


class Interrupted(KeyboardInterrupt):
    """The user stopped the run; the text says how far it got."""


class Stopped(Exception):
    """The minutes or epochs given to the run are over; the text says how far it got."""


def run(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    dense_from: Path | None = None,
    max_minutes: float | None = None,
    max_epochs: int | None = None,
    tensorboard: bool = False,
    command: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Carry out `recipe`, write everything into the folder `out`, and return the metrics.

    With `resume` the run in `out` goes on after the last epoch that was finished, with the same result as if it
    had not been stopped; a finished run is returned as it is. With `force` the run in `out` is overwritten.
    `dense_from` is the folder of a run with the same dense network, which is taken from there. After
    `max_minutes` or `max_epochs` of this call, the run stops with its state saved. `tensorboard` writes the
    curves for TensorBoard too, and `command` is noted in the metrics. In the metrics, sparsity and accuracy
    are fractions, times are seconds. With `quiet` progress goes to the log in the folder alone.

    Errors in the recipe, the data, the checkpoint or the sparsity are raised before `out` is touched. Raises the
    subclasses of GpmtError, `Interrupted` on Ctrl-C, and `Stopped`.
    """
    folder = RunFolder(out)
    folder.check(recipe, resume=resume, force=force)
    accelerator = make_accelerator(recipe)
    reporter = Reporter(silent=not accelerator.is_main_process, quiet=quiet)
    if resume and (metrics := folder.finished()):
        reporter.line(f"{out} is finished already")
        return metrics
    state = folder.load_state() if resume else None
    time_budget = TimeBudget(minutes=max_minutes, epochs=max_epochs)
    experiment = Experiment(
        recipe, folder, accelerator, reporter, time_budget, state=state, dense_from=dense_from
    )
    accelerator.wait_for_everyone()  # all have read what the first may now remove
    if accelerator.is_main_process:
        folder.start(recipe, resume=resume, tensorboard=tensorboard or "tensorboard" in recipe.log)
    reporter.log = folder.log
    trackers, record = Trackers(recipe, out, reporter), experiment.setup.record
    with _begun(folder, trackers, resume=resume) if accelerator.is_main_process else nullcontext():
        experiment.setup.publish = lambda: trackers.log(record)
        experiment.setup.record["commands"].append(command)
        reporter.line(f"{recipe.title}: {command}")
        if recipe.budget_split:
            reporter.line(recipe.budget_split)
        results = _execute(experiment)
        if results[0] is not None:
            trackers.finish(results[0])
    broadcast_object_list(results)
    return results[0] or {}


@contextmanager
def _begun(folder: RunFolder, trackers: Trackers, *, resume: bool) -> Iterator[None]:
    """Hold the log, by which others see that the run is running, and begin the runs of its trackers."""
    with locked(folder.log), trackers.started(resume=resume):
        yield


def _execute(experiment: Experiment) -> list[dict[str, Any] | None]:
    """Carry out an experiment; its metrics are None in all processes but the first. The log has how it ended."""
    note = experiment.setup.reporter.note
    try:
        experiment.execute()
        return [_finish(experiment) if experiment.setup.accelerator.is_main_process else None]
    except KeyboardInterrupt:
        note(f"{INTERRUPTED} {experiment.progress}")
        raise Interrupted(experiment.progress) from None
    except SystemExit:
        note(f"{INTERRUPTED} by a signal, {experiment.progress}")
        raise
    except TimeBudgetSpent as spent:
        note(f"{STOPPED} {spent}, {experiment.progress}")
        raise Stopped(f"{spent}, {experiment.progress}") from None
    except Exception as error:
        sentence = _resource_failure(error, experiment.progress) if isinstance(error, RuntimeError) else None
        words = sentence or first_line(error)
        with suppress(OSError):  # the disk may be full
            note(
                f"{DIVERGED}: {words}"
                if words.startswith(NOT_FINITE)
                else f"{FAILED} {experiment.progress}: {words}"
            )
        if sentence:
            raise GpmtError(sentence) from error
        raise


def _resource_failure(error: RuntimeError, progress: str) -> str | None:
    """Say which resource of the machine ran out, or return None for an error of another kind."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the device ran out of memory {progress}; lower batch_size or raise accumulate, and start again"
        )
    if "DataLoader worker" in str(error):
        return (
            f"a process that reads data was killed {progress}, probably because memory ran out; lower "
            "data.workers and go on with --resume"
        )
    return None


def _finish(experiment: Experiment) -> dict[str, Any]:
    """Verify the files that were written, and write the metrics."""
    setup = experiment.setup
    metrics, verification = run_metrics(setup)
    setup.folder.finish(metrics)
    for line in str(verification).splitlines():
        setup.reporter.line(line)
    return metrics
