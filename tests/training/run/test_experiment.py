from pathlib import Path

import pytest
from tests.training.run.runs import same_weights, short_recipe

from gpmt.errors import CheckpointError, RecipeError
from gpmt.training.recipes.files import load_recipe
from gpmt.training.run.run import run


def test_a_dense_checkpoint_serves_several_prunings(finished, small, tmp_path: Path):
    out, metrics = finished
    for sparsity in (0.5, 0.95):
        recipe = small(
            f"checkpoint={out / 'dense.pt'}", "dense.epochs=0", f"sparsity={sparsity}", "finetune.epochs=0"
        )
        pruned = run(recipe, tmp_path / str(sparsity))
        assert pruned["dense"] == metrics["dense"]
        assert pruned["kept"] == metrics["weights"] - int(metrics["weights"] * sparsity)


def test_pruning_an_adapted_checkpoint_equals_the_run_that_adapted_it(finished, small, tmp_path: Path):
    out, metrics = finished
    pruned = run(small(f"checkpoint={out / 'dense.pt'}", "dense.epochs=0"), tmp_path / "run")
    assert pruned["finetuned"] == metrics["finetuned"]
    assert same_weights(tmp_path / "run" / "model.pt", out / "model.pt")


def test_a_checkpoint_is_scored_before_it_is_adapted(finished, small, tmp_path: Path):
    out, metrics = finished
    recipe = small(
        f"checkpoint={out / 'dense.pt'}", "dense.epochs=1", "dense.warmup_epochs=0", "finetune.epochs=0"
    )
    assert run(recipe, tmp_path / "run")["history"]["dense"][0]["test"] == metrics["dense"]


def test_the_dense_network_of_another_run_is_taken_with_its_history(dense: Path, tmp_path: Path):
    there = run(short_recipe("sparsity=0.5"), tmp_path / "taken", dense_from=dense)
    own = run(short_recipe("sparsity=0.5"), tmp_path / "own")
    assert there["finetuned"] == own["finetuned"]
    assert there["dense"] == own["dense"]
    assert there["dense_from"] == str(dense)
    assert same_weights(tmp_path / "taken/model.pt", tmp_path / "own/model.pt")


def test_a_dense_network_of_other_settings_is_refused(dense: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"comes from other settings \(seed, dense differ\)"):
        run(short_recipe("seed=1", "dense.lr=0.2"), tmp_path / "run", dense_from=dense)
    with pytest.raises(RecipeError, match=r"does not hold a run \(recipe.yaml is missing\)"):
        run(short_recipe(), tmp_path / "run", dense_from=tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_for_other_classes_is_refused(dense: Path, tmp_path: Path):
    recipe = load_recipe(
        "digits", ["model=resnet20", f"dense.checkpoint={dense / 'dense.pt'}", "dense.epochs=0"]
    )
    with pytest.raises(CheckpointError, match=r"dense.pt .*resnet20"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
