"""What a phase offers beyond the plain loop, through whole runs on the digits."""

from pathlib import Path

from tests.training.run.runs import same_weights, short_recipe, weights

from gpmt.masks import Masks
from gpmt.training.run.run import run


def test_a_schedule_prunes_while_it_trains_without_a_dense_network(tmp_path: Path):
    metrics = run(short_recipe("schedule=gradual", "dense.epochs=0", "finetune.epochs=4"), tmp_path / "run")
    sparsities = [row["sparsity"] for row in metrics["history"]["finetune"][1:]]
    assert sparsities == sorted(sparsities)
    assert 0 < sparsities[0] < sparsities[1] == sparsities[2] == sparsities[3] == metrics["sparsity"]
    assert metrics["pruned"] is None
    assert metrics["best"]["epoch"] >= 2  # of the epochs with the final masks


def test_one_shot_in_the_middle_of_training(tmp_path: Path):
    metrics = run(short_recipe("start=1", "dense.epochs=0"), tmp_path / "run")
    assert [row["sparsity"] for row in metrics["history"]["finetune"][1:]] == [metrics["sparsity"]] * 2
    assert metrics["pruned"] is None


def test_recalibration_gives_the_pruned_network_a_start(tmp_path: Path):
    recipe = short_recipe(
        "dense.epochs=6", "sparsity=0.5", "finetune.epochs=0", "recalibrate=320", "dense.lr=0.05"
    )
    metrics = run(recipe, tmp_path / "run")
    assert metrics["recalibrated"]["top1"] > metrics["pruned"]["top1"] + 0.1
    assert metrics["finetuned"] == metrics["recalibrated"]


def test_the_average_is_what_is_evaluated_and_written(dense: Path, tmp_path: Path):
    metrics = run(short_recipe("finetune.ema=0.5", "dense.ema=0.5"), tmp_path / "run")
    masks = Masks.load(tmp_path / "run/masks.safetensors")
    written = weights(tmp_path / "run/model.pt")
    assert all(not written[name][~masks[name]].any() for name in masks)
    assert not same_weights(tmp_path / "run/model.pt", dense / "model.pt")
    assert not same_weights(tmp_path / "run/dense.pt", dense / "dense.pt")
    assert metrics["verification"]["ok"]
