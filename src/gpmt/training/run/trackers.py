"""A run in experiment trackers, through Accelerate: Weights & Biases, MLflow and Trackio.

TensorBoard's files are written anew from the history, see `RunFolder.log_history`.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from shutil import rmtree
from typing import Any

from accelerate import tracking

from gpmt.atomic import atomic_path
from gpmt.errors import GpmtError, RecipeError, first_line
from gpmt.extras import import_extra
from gpmt.runs.log import FAILED
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.phase import PHASES
from gpmt.training.run.progress import Reporter
from gpmt.warning import warn

PROJECT = "gpmt"
_FINAL = ("sparsity", "weights", "kept", "parameters")


def check_trackers(recipe: Recipe) -> None:
    """Raise `RecipeError` where a tracker that the recipe asks for is not installed."""
    for name in recipe.log:
        import_extra(name, RecipeError)
        if name not in tracking.LOGGER_TYPE_TO_CLASS:
            raise RecipeError(
                f"log is {name}, which the installed accelerate does not know; update accelerate"
            )


class Trackers:
    """The trackers of a run, in its first process alone; all that they write locally is in one folder of the run.

    What was written is noted beside it, so that a resumed run goes on in the same runs of the trackers, without an
    epoch twice. A tracker that fails while the run goes on is left out with a warning.
    """

    def __init__(self, recipe: Recipe, run: Path, reporter: Reporter) -> None:
        self.recipe, self.run, self.reporter = recipe, run, reporter
        self.folder = run / "trackers"
        self._notes = self.folder / "state.json"
        self._active: dict[str, Any] = {}
        self._state: dict[str, dict[str, Any]] = {}
        self._own_store = False

    @contextmanager
    def started(self, *, resume: bool) -> Iterator[None]:
        """Begin a run in each tracker, or go on with it, and end it with the block."""
        names = [name for name in self.recipe.log if name != "tensorboard"]
        if not resume:
            rmtree(self.folder, ignore_errors=True)
        try:
            if names:
                self.folder.mkdir(exist_ok=True)
                self._state = self._read()
            for name in names:
                self._start(name)
            yield
        finally:
            for name in list(self._active):
                with self._tolerating(name):
                    self._end(name)
            if self._own_store:
                import_module("mlflow").set_tracking_uri(None)

    def log(self, record: Mapping[str, Any]) -> None:
        """Write the epochs of a record that a tracker has not yet, at the number of epochs trained so far."""
        for name, tracker in list(self._active.items()):
            state, rows = self._state[name], epoch_rows(record["history"])
            new, event = rows[state["rows"] :], _pruning(record)
            pruned = [row for row in new if row.phase == PHASES[-1]]
            if pruned and event != state["pruning"]:
                row = pruned[0 if self.recipe.prune.at_once else -1]
                row.values.update({f"pruning/{key}": value for key, value in event.items()})
                state["pruning"] = event
            with self._tolerating(name):
                for row in new:
                    tracker.log(row.values, step=row.step)
                state["rows"] = len(rows)
        self._write()

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the results of the run, once."""
        self.log(metrics)
        step = epoch_rows(metrics["history"])[-1].step
        for name, tracker in list(self._active.items()):
            if not self._state[name]["finished"]:
                with self._tolerating(name):
                    tracker.log(_results(metrics), step=step)
                    self._state[name]["finished"] = True
        self._write()

    def _start(self, name: str) -> None:
        """Begin a run in one tracker, with the settings of the recipe, or go on with it."""
        fresh = name not in self._state
        new = {"id": uuid.uuid4().hex[:8], "rows": 0, "pruning": {}, "finished": False}
        state = self._state.setdefault(name, new)
        try:
            with redirect_stdout(StringIO()):  # Trackio prints
                tracker = self._make(name, state, fresh=fresh)
                tracker.start()
                if fresh:
                    tracker.store_init_configuration(self._settings())
        except Exception as error:  # of the tool, or of the network
            sentence = f"log={name} cannot be started ({first_line(error)}); leave it out of log"
            self.reporter.note(f"{FAILED} before the first epoch: {sentence}")
            raise GpmtError(sentence) from error
        self._active[name] = tracker
        if name == "mlflow":
            state["id"] = tracker.tracker.info.run_id
        self._write()
        self.reporter.line(
            f"{name}: {'a new run' if fresh else 'going on with the run'}, {self._place(name, state)}"
        )

    def _end(self, name: str) -> None:
        tracker = self._active.pop(name)
        if name == "trackio":  # else it would end the run again when Python exits
            import_module("trackio").finish()
        else:
            tracker.finish()

    def _make(self, name: str, state: Mapping[str, Any], *, fresh: bool) -> Any:
        tracker = tracking.LOGGER_TYPE_TO_CLASS[name]
        title = self.run.resolve().name
        if name == "wandb":
            return tracker(
                os.environ.get("WANDB_PROJECT", PROJECT),
                id=state["id"],
                name=title,
                resume="allow",
                dir=str(self.folder),
                settings=self._wandb_settings(),
            )
        if name == "mlflow":
            local = self._place_mlflow()
            known = None if fresh else state["id"]
            return tracker(PROJECT, logging_dir=local, run_id=known, run_name=title)
        # Trackio finds a run again by its name alone.
        run = f"{title}-{state['id']}"
        return tracker(PROJECT, name=run, resume="allow", embed=False, auto_log_cpu=False, auto_log_gpu=False)

    def _wandb_settings(self) -> Any:
        """Return settings that keep off the network and the terminal, unless the user says otherwise."""
        import wandb

        settings: dict[str, Any] = {"console": "off", "silent": True}
        if "WANDB_MODE" not in os.environ:
            settings["mode"] = "online" if self.recipe.log_online else "offline"
        return wandb.Settings(**settings)

    def _place_mlflow(self) -> str | None:
        """Keep runs of MLflow in the folder of the run, unless the user says where; its slim package has no SQL."""
        if "MLFLOW_TRACKING_URI" in os.environ:
            return None
        import mlflow

        files = self.folder / "mlruns"
        if files.exists() or find_spec("sqlalchemy") is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            mlflow.set_tracking_uri(files.resolve().as_uri())
        else:
            mlflow.set_tracking_uri(f"sqlite:///{(self.folder / 'mlflow.db').resolve()}")
        self._own_store = True
        return (self.folder / "artifacts").resolve().as_uri()

    def _place(self, name: str, state: Mapping[str, Any]) -> str:
        """Say where a tracker writes, and how to see it."""
        if name == "mlflow":
            import mlflow

            return f"in {mlflow.get_tracking_uri()}"
        if name == "trackio":
            return f"shown by: trackio show --project {PROJECT}"
        run = self._active[name].tracker
        return (
            f"at {run.url}"
            if run.url
            else f"sent by: wandb sync {self.folder}/wandb/offline-run-*-{state['id']}"
        )

    def _settings(self) -> dict[str, Any]:
        return dict(_flat(self.recipe.model_dump(mode="json")))

    @contextmanager
    def _tolerating(self, name: str) -> Iterator[None]:
        """Go on without a tracker that raises; the run matters more."""
        try:
            with redirect_stdout(StringIO()):
                yield
        except Exception as error:
            self._active.pop(name, None)
            warn(f"{name} cannot be written to ({first_line(error)}); the run goes on without it")

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self._notes.exists():
            return {}
        try:
            state: dict[str, dict[str, Any]] = json.loads(self._notes.read_text(encoding="utf-8"))
            for each in state.values():
                each["id"], each["rows"], each["pruning"], each["finished"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GpmtError(
                f"{self._notes} is damaged ({first_line(error)}); remove it to log all epochs anew"
            ) from None
        return state

    def _write(self) -> None:
        if self._state:
            with atomic_path(self._notes) as temporary:
                temporary.write_text(json.dumps(self._state, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class EpochRow:
    """What trackers are told of an epoch; `step` is the number of epochs of all phases trained by then."""

    phase: str
    step: int
    values: dict[str, Any]


def epoch_rows(history: Mapping[str, Any]) -> list[EpochRow]:
    """Return what was measured in every epoch, in order; the first of a phase was measured before training in it."""
    rows, done = [], 0
    for phase in PHASES:
        for row in history[phase]:
            values = {
                f"{phase}/{key.replace('.', '_')}": value
                for key, value in _flat(row)
                if key != "epoch" and isinstance(value, int | float)
            }
            if "sparsity" in row:
                values["sparsity"] = row["sparsity"]
            step = done + row["epoch"]
            rows.append(EpochRow(phase, step, values | {"epoch": step}))
        done += max((row["epoch"] for row in history[phase]), default=0)
    return rows


def _pruning(record: Mapping[str, Any]) -> dict[str, float]:
    """Return what the plan in force says of the last pruning; nothing before the first."""
    plan = record["plan"]
    if plan is None:
        return {}
    values = {"sparsity": plan["achieved_sparsity"], "kept": plan["kept"], "threshold": plan["threshold"]}
    return {key: value for key, value in values.items() if value is not None}


def _results(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the results of a finished run as numbers."""
    values: dict[str, Any] = {key: metrics[key] for key in _FINAL}
    values |= {"macs_dense": metrics["macs"]["dense"], "macs_sparse": metrics["macs"]["sparse"]}
    values |= {"fewest_kept": metrics["fewest_kept"]["kept"], "dead": len(metrics["dead"])}
    values["verified"] = int(metrics["verified"])
    for stage in ("dense", "pruned", "recalibrated", "finetuned"):
        values |= {f"{stage}_{key}": value for key, value in (metrics[stage] or {}).items()}
    values["seconds"] = sum(metrics["seconds"].values())
    return {f"final/{key}": value for key, value in values.items() if isinstance(value, int | float)}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
