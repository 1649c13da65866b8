"""Finished runs that several tests compare theirs with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.training.run.runs import digits_recipe, short_recipe

from gpmt.training.recipes.files import load_recipe
from gpmt.training.recipes.schema import Recipe
from gpmt.training.run.run import run


@pytest.fixture(scope="session")
def small(shared_image_tree: Path) -> Callable[..., Recipe]:
    """A recipe, to be changed by overrides, that takes a second: augmentation, batch norm, odd last batch."""
    phases = [
        f"{phase}.{setting}" for phase in ("dense", "finetune") for setting in ("epochs=2", "batch_size=10")
    ]
    fixed = [*phases, f"data.root={shared_image_tree}", "min_kept=100", "compute.device=cpu"]
    return lambda *overrides: load_recipe("cifar10-resnet20", [*fixed, *overrides])


@pytest.fixture(scope="package")
def finished(small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "finished"
    return out, run(small(), out)


@pytest.fixture(scope="package")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "digits"
    return out, run(digits_recipe(), out, command="gpmt run digits")


@pytest.fixture(scope="package")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose dense network the others take."""
    out = tmp_path_factory.mktemp("runs") / "dense"
    run(short_recipe(), out)
    return out
