"""The run folder: which files a run writes, and how it starts, goes on and ends there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpmt.atomic import atomic_path
from gpmt.errors import CheckpointError, RecipeError
from gpmt.training.recipe import Recipe, load_recipe

STATE_VERSION = 1


class RunFolder:
    """The files of one run; each is written in full or not at all.

    ``recipe.yaml`` (as resolved), ``log.txt``, ``dense.pt``, ``model.pt``, ``masks.safetensors`` and, last,
    ``metrics.json``, which marks the run as finished. ``state.pt`` is there while the run is not finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.log = path / "log.txt"
        self.state = path / "state.pt"
        self.dense = path / "dense.pt"
        self.model = path / "model.pt"
        self.masks = path / "masks.safetensors"
        self.metrics = path / "metrics.json"

    def check(self, recipe: Recipe, *, resume: bool, force: bool) -> None:
        """Raise RecipeError if the run must not start here; nothing is changed."""
        if not self.path.exists() or force:
            return
        if not self.path.is_dir():
            raise RecipeError(f"{self.path} is a file, but a run needs a folder; choose another with --out")
        if resume and self.recipe.exists():
            different = _differences(load_recipe(str(self.recipe)), recipe)
            if different:
                raise RecipeError(
                    f"{self.path} was started with another recipe ({', '.join(different)}); "
                    f"go on with `gpmt run {self.recipe} --resume`, or choose another --out"
                )
        elif any(self.path.iterdir()):
            raise RecipeError(
                f"{self.path} is not empty; choose another folder with --out, go on with --resume, "
                "or overwrite the run in it with --force"
            )

    def start(self, recipe: Recipe, *, resume: bool) -> None:
        """Make the folder ready and note the recipe; unless resuming, files of an earlier run are removed."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not resume:
                for path in vars(self).values():
                    if path != self.path:
                        path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot be used for a run ({error.strerror}); choose another --out"
            ) from error
        self.write_text(self.recipe, recipe.to_yaml())

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file atomically."""
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def save_weights(self, path: Path, state_dict: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write ``{"state_dict": ..., "gpmt": about}``, the tensors in plain layout."""
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
        with atomic_path(path) as temporary:
            torch.save({"state_dict": weights, "gpmt": dict(about)}, temporary)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write what the run needs to go on after this epoch."""
        with atomic_path(self.state) as temporary:
            torch.save({"version": STATE_VERSION, **state}, temporary)

    def load_state(self) -> dict[str, Any] | None:
        """Return what `save_state` wrote last, on the CPU; None when the run has not got that far."""
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


def _differences(before: Recipe, now: Recipe) -> list[str]:
    """Name the settings that differ; data may have moved, and texts do not matter."""
    flat_before, flat_now = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    free = {"title", "about", "data.root"}
    return [
        f"{key} {value} there, {flat_now[key]} now"
        for key, value in flat_before.items()
        if key not in free and value != flat_now[key]
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat
