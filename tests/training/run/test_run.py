from pathlib import Path

import pytest
import torch
from tests.training.run.runs import comparable, digits_recipe, same_weights

from gpmt.errors import BudgetError, CheckpointError, DataError, RecipeError, ScopeError
from gpmt.runs.log import locked
from gpmt.runs.run_summary import read_run
from gpmt.training.models import build
from gpmt.training.run.run import run


def test_the_same_seed_gives_identical_results_and_another_does_not(finished, small, tmp_path: Path):
    out, metrics = finished
    again = run(small(), tmp_path / "again")
    assert comparable(again) == comparable(metrics)
    assert same_weights(tmp_path / "again" / "model.pt", out / "model.pt")
    other = run(small("seed=1", "dense.epochs=1", "finetune.epochs=0"), tmp_path / "other")
    assert other["history"]["dense"][1]["train"] != metrics["history"]["dense"][1]["train"]


@pytest.mark.parametrize(
    ("overrides", "error", "sentence"),
    [
        (["sparsity=0.9999", "min_kept=10%"], BudgetError, "sparsity 0.9999 keeps . of .* but the minimum of"),
        (["exclude=stam.weight"], ScopeError, "stam.weight"),
        (["data.name=cifar10"], DataError, "data.root is not given"),
        (["model=lenet5-caffe"], RecipeError, "images are 8×8, but LeNet-5-Caffe needs at least 16×16"),
        (["checkpoint=nowhere.pt"], CheckpointError, "nowhere.pt does not exist"),
        (["checkpoint=other.pt"], CheckpointError, r"other.pt does not fit mobilenet-digits: .* \(stem.weight"),
        (["checkpoint=classes.pt"], CheckpointError, r"classes.pt has classifier.weight of shape \(7, 64\)"),
    ],
)  # fmt: skip
def test_what_cannot_work_fails_before_the_folder_is_touched(
    tmp_path: Path, monkeypatch, overrides, error, sentence
):
    monkeypatch.chdir(tmp_path)
    torch.save({"a.weight": torch.zeros(2, 2)}, "other.pt")
    torch.save(build("mobilenet-digits", num_classes=7, input_shape=(1, 8, 8)).state_dict(), "classes.pt")
    with pytest.raises(error, match=sentence):
        run(digits_recipe(*overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_diverges_names_the_learning_rate_and_keeps_the_last_state(tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(
        RecipeError, match=r"the loss became nan in epoch 1 of dense; lower dense.lr, which is 1e\+30"
    ):
        run(digits_recipe("dense.lr=1e30"), out)
    assert len(torch.load(out / "state.pt", weights_only=True)["record"]["history"]["dense"]) == 1
    listed = read_run(out)
    assert (listed.state, listed.note[:29]) == ("diverged", "the loss became nan in epoch ")


def test_a_finished_run_is_listed_with_what_it_reported(digits):
    out, metrics = digits
    listed = read_run(out)
    assert (listed.state, listed.note, listed.title) == ("finished", "", metrics["title"])
    assert (listed.top1, listed.dense_top1) == (metrics["finetuned"]["top1"], metrics["dense"]["top1"])
    assert (listed.sparsity, listed.asked, listed.min_kept) == (metrics["sparsity"], "0.93", "0.25%")
    assert (listed.epochs, listed.total_epochs, listed.when) == (4, 4, metrics["finished"])
    assert listed.seconds == pytest.approx(sum(metrics["seconds"].values()))


def test_a_folder_that_a_run_writes_is_left_to_it(tmp_path: Path):
    out = tmp_path / "run"
    out.mkdir()
    with (
        locked(out / "log.txt"),
        pytest.raises(RecipeError, match="run is in use by a run; wait for it or end it, or choose another"),
    ):
        run(digits_recipe(), out, force=True)
    assert [path.name for path in out.iterdir()] == ["log.txt"]


def test_weights_that_diverge_before_a_pruning_are_a_loss_that_diverges(tmp_path: Path):
    overrides = (
        "dense.epochs=0",
        "finetune.epochs=4",
        "schedule=gradual",
        "interval=0.2",
        "finetune.lr=1e30",
    )
    with pytest.raises(RecipeError, match=r"the loss became nan in epoch \d of finetune; lower finetune.lr"):
        run(digits_recipe(*overrides), tmp_path / "run")
