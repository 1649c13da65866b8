"""The run folder: which files a run writes, and when."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from torch import Tensor

from gpmt.atomic import atomic_path
from gpmt.errors import CheckpointError, RecipeError
from gpmt.formats.run_result import RECIPE, RESULT
from gpmt.runs.log import LOG, is_locked
from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.schema import Recipe

STATE_VERSION = 2

README = """# {title}

{about}

This folder holds one run of `gpmt run`: {pruning}. What is in it:

| file | what it is |
|---|---|
| recipe.yaml | every setting, defaults written out; `gpmt run recipe.yaml -o ELSEWHERE` repeats the run |
| log.txt | what the run printed, with times and commands |
| history.csv | loss, accuracy, learning rate, sparsity and speed of every epoch |
| dense.pt | the dense network that was pruned |
| model.pt | the result: the weights after the last epoch, pruned ones exactly zero |
| best.pt | the weights of the best epoch with the final masks, chosen on the test images; not what is reported |
| masks.safetensors | which weights are kept, by tensor name |
| metrics.json | results, plan, verification, versions, machine, seeds, times; there once the run is finished |
| report.html | all this as a page for a browser; `gpmt report .` writes it anew |
| state.pt | what `gpmt run recipe.yaml --resume` goes on from; there until the run is finished |

`gpmt verify model.pt --masks masks.safetensors` proves the zeros, `gpmt inspect model.pt` lists the layers.
"""


class RunFolder:
    """The files of one run; each is written in full or not at all. `README` says what each of them is.

    ``metrics.json`` comes last and marks the run as finished; ``state.pt`` is there until then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / RECIPE
        self.log = path / LOG
        self.state = path / "state.pt"
        self.dense = path / "dense.pt"
        self.model = path / RESULT
        self.best = path / "best.pt"
        self.masks = path / "masks.safetensors"
        self.history = path / "history.csv"
        self.tensorboard = path / "tensorboard"
        self.readme = path / "README.md"
        self.metrics = path / "metrics.json"
        self.report = path / "report.html"

    def check(self, recipe: Recipe, *, resume: bool, force: bool) -> None:
        """Raise RecipeError if the run must not start here; nothing is changed."""
        if resume and not force and not (self.path.is_file() or self.recipe.exists()):
            state = "holds no run" if self.path.exists() else "does not exist"
            raise RecipeError(
                f"{self.path} {state}, so there is nothing to go on with; leave out --resume to start one, or give "
                "the folder of the run with -o"
            )
        if is_locked(self.log):
            raise RecipeError(
                f"{self.path} is in use by a run; wait for it or end it, or choose another folder with -o"
            )
        if not self.path.exists() or force:
            return
        if not self.path.is_dir():
            raise RecipeError(f"{self.path} is a file, but a run needs a folder; choose another with -o")
        if resume:
            different = _differences(load_recipe(str(self.recipe)), recipe)
            if different:
                raise RecipeError(
                    f"{self.path} was started with another recipe ({', '.join(different)}); "
                    f"go on with `gpmt run {self.recipe} --resume`, or choose another folder with -o"
                )
        elif any(self.path.iterdir()):
            raise RecipeError(
                f"{self.path} is not empty; choose another folder with -o, go on with --resume, "
                "or overwrite the run in it with --force"
            )

    def start(self, recipe: Recipe, *, resume: bool, tensorboard: bool = False) -> None:
        """Make the folder ready and note the recipe; unless resuming, files of an earlier run are removed."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not resume:
                rmtree(self.tensorboard, ignore_errors=True)
                for path in vars(self).values():
                    if path not in (self.path, self.tensorboard):
                        path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot be used for a run ({error.strerror}); choose another folder with -o"
            ) from error
        self.write_text(self.recipe, recipe.to_yaml())
        if tensorboard:
            self.tensorboard.mkdir(exist_ok=True)
        self.write_text(
            self.readme, README.format(title=recipe.title, about=recipe.about, pruning=_pruning(recipe))
        )

    def settings(self) -> Recipe:
        """Return the recipe of the run in this folder."""
        if not self.recipe.exists():
            raise RecipeError(
                f"{self.path} does not hold a run (recipe.yaml is missing); give the folder of one"
            )
        return load_recipe(str(self.recipe))

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file atomically."""
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def save_weights(self, path: Path, state_dict: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write ``{"state_dict": ..., "gpmt": about}``, the tensors contiguous and on the CPU."""
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
        with atomic_path(path) as temporary:
            torch.save({"state_dict": weights, "gpmt": dict(about)}, temporary)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write what the run needs to go on after this epoch."""
        with atomic_path(self.state) as temporary:
            torch.save({"version": STATE_VERSION, **state}, temporary)

    def load_state(self) -> dict[str, Any] | None:
        """Return what `save_state` wrote last, on the CPU; None when it has not written yet."""
        if not self.state.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.state, map_location="cpu", weights_only=True)
            version = state["version"]
        except Exception as error:  # a damaged file can make an unpickler raise anything
            raise CheckpointError(
                f"{self.state} is damaged ({error}); start the run again with --force"
            ) from error
        if version != STATE_VERSION:
            raise CheckpointError(
                f"{self.state} has version {version}, but this gpmt goes on from version {STATE_VERSION}; "
                "start the run again with --force"
            )
        return state

    def log_history(self, history: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Write what was measured in every epoch as a table, and for TensorBoard where that folder is."""
        rows = [_columns(phase, row) for phase, rows in history.items() for row in rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(self.history, text.getvalue())
        if self.tensorboard.exists():
            _write_events(self.tensorboard, rows, self.recipe.read_text(encoding="utf-8"))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics, which marks the run as finished, and drop the state."""
        self.write_text(self.metrics, json.dumps(metrics, indent=2) + "\n")
        self.state.unlink(missing_ok=True)

    def finished(self) -> dict[str, Any] | None:
        """Return the metrics if the run is finished."""
        if not self.metrics.exists():
            return None
        metrics: dict[str, Any] = json.loads(self.metrics.read_text(encoding="utf-8"))
        return metrics


def _pruning(recipe: Recipe) -> str:
    """Say in short what is pruned, when and how."""
    prune = recipe.prune
    floor = f", at least {prune.min_kept} in every layer" if prune.min_kept else ""
    return f"sparsity {prune.sparsity}{floor}, method {prune.method}, schedule {prune.schedule}"


def _differences(before: Recipe, now: Recipe) -> list[str]:
    """Name the settings that differ, apart from those that do not change the result."""
    flat_before, flat_now = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    ignored = {"title", "about", "data.root", "data.workers", "log", "log_online"}
    return [
        f"{key} {value} there, {flat_now[key]} now"
        for key, value in flat_before.items()
        if key not in ignored and not key.startswith("expects.") and value != flat_now[key]
    ]


def _columns(phase: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a row of the history: ``{"test": {"top1": ...}}`` becomes ``test_top1``."""
    flat = {"phase": phase}
    for key, value in row.items():
        flat.update(
            {f"{key}_{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value}
        )
    return flat


def _write_events(folder: Path, rows: Sequence[Mapping[str, Any]], recipe: str) -> None:
    """Write the recipe and the curves anew, so that a resumed run leaves no epoch twice."""
    from torch.utils.tensorboard import SummaryWriter

    rmtree(folder)
    with SummaryWriter(str(folder)) as writer:
        writer.add_text("recipe", f"```\n{recipe}```")
        for row in rows:
            for key, value in row.items():
                if key not in ("phase", "epoch") and value is not None:
                    writer.add_scalar(f"{row['phase']}/{key}", value, row["epoch"])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat
