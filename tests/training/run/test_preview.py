"""What a run would do, told without doing it."""

from pathlib import Path

import pytest
import torch

import gpmt
from gpmt.errors import BudgetError, RecipeError
from gpmt.training.models import construct
from gpmt.training.recipes.files import load_recipe
from gpmt.training.run.preview import preview


def test_the_phases_the_plan_and_the_files_are_told_and_nothing_is_written(tmp_path: Path):
    found = preview(load_recipe("digits", ["sparsity=0.9"]), tmp_path / "run")
    assert not found.weights_known
    assert found.lines()[1].endswith(f"trained for {found.recipe.dense.epochs} epochs")
    assert found.plan.pruned == found.plan.numel * 9 // 10
    names = {path.name for path in found.files}
    assert names >= {"recipe.yaml", "dense.pt", "model.pt", "masks.safetensors", "metrics.json"}
    assert "state.pt" not in names
    assert found.to_dict()["would_write"][0].startswith(str(tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_the_plan_is_that_of_the_dense_network_that_is_read(tmp_path: Path):
    recipe = load_recipe("digits")
    network = construct(recipe.model, num_classes=10, input_shape=(1, 8, 8))
    torch.save(network.state_dict(), tmp_path / "dense.pt")
    recipe = load_recipe("digits", ["dense.epochs=0", f"dense.checkpoint={tmp_path / 'dense.pt'}"])
    found = preview(recipe, tmp_path / "run")
    assert found.weights_known
    assert found.lines()[1].endswith(", read")
    expected = gpmt.plan(network, sparsity=recipe.prune.sparsity, min_kept=recipe.prune.min_kept)
    assert found.plan.masks() == expected.masks()


def test_what_a_run_refuses_is_refused(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").touch()
    with pytest.raises(RecipeError, match="is not empty"):
        preview(load_recipe("digits"), tmp_path / "run")
    with pytest.raises(BudgetError, match="but the minimum of"):
        preview(load_recipe("digits", ["min_kept=100000"]), tmp_path / "other")
