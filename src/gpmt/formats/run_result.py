"""The folder of a run, which stands for the weights that the run ended with."""

from __future__ import annotations

import os
from pathlib import Path

from gpmt.errors import CheckpointError

RECIPE, RESULT = "recipe.yaml", "model.pt"
_SWEEP = "sweep.json"
# Other tools keep recipes in the folders of Hugging Face libraries, whose networks are described here.
_CONFIG = "config.json"


def is_run(path: Path) -> bool:
    """Tell whether a path is the folder of a run (`gpmt run`), by its recipe."""
    return (path / RECIPE).is_file() and not os.path.lexists(path / _CONFIG) and not is_sweep(path)


def weights_file(path: Path) -> Path:
    """Return model.pt of the folder of a run, and any other path as it is.

    Raises `CheckpointError` for a run that has no model.pt yet, and for the folder of a sweep.
    """
    if is_sweep(path):
        raise CheckpointError(f"{path} is the folder of a sweep; give that of one of its runs")
    if not is_run(path):
        return path
    if not (path / RESULT).is_file():
        raise CheckpointError(
            f"{path} is the folder of a run without its result, {RESULT}; finish the run with "
            f"gpmt run {path / RECIPE} --resume, or give another file of it"
        )
    return path / RESULT


def is_sweep(path: Path) -> bool:
    """Tell whether a path is the folder of a sweep or a comparison."""
    return (path / _SWEEP).is_file() and (path / RECIPE).is_file()
