from pathlib import Path

import pytest

from gpmt.errors import BudgetError, CheckpointError, DataError, RecipeError
from gpmt.training.run.progress import Reporter
from gpmt.training.sweep import run_queue
from gpmt.training.sweep.check_runs import check_runs
from gpmt.training.sweep.grid import make_grid
from gpmt.training.sweep.runner import sweep


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        (["sparsity=0.9,0.9999", "min_kept=0,10%"], BudgetError, "^sparsity=0.9 min_kept=10%: sparsity 0.9 keeps"),
        (["schedule=one-shot,ac-dc", "finetune.epochs=1", "finetune.batch_size=1000"], BudgetError,
         "^schedule=ac-dc: total is 2 steps, but AC/DC needs at least 5"),
        (["data.name=digits,mnist"], DataError, "^name=mnist: data.root is not given"),
        (["model=mobilenet-digits,lenet5-caffe"], RecipeError, "^model=lenet5-caffe: model is lenet5-caffe, which"),
        (["checkpoint=null,nowhere.pt"], CheckpointError, "^checkpoint=nowhere.pt: nowhere.pt does not exist"),
        (["precision=float32,fp16", "device=cpu"], RecipeError, "^precision=fp16: compute.precision is fp16, which"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_found_before_any_run_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    error: type[Exception],
    sentence: str,
):
    monkeypatch.delattr(run_queue, "RunProcess")
    with pytest.raises(error, match=sentence):
        sweep(make_grid("digits", settings), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_errors_that_are_tolerated_are_told_for_every_run():
    points = make_grid("digits", ["sparsity=0.9,0.9999", "seed=0,1", "min_kept=100"]).points
    refused = check_runs(points, Reporter(silent=True), tolerate=(BudgetError,))
    assert set(refused) == {"sparsity=0.9999,seed=0", "sparsity=0.9999,seed=1"}
    assert all(sentence.startswith("sparsity 0.9999 keeps 6 of") for sentence in refused.values())
    with pytest.raises(BudgetError):
        check_runs(points, Reporter(silent=True), tolerate=(DataError,))


def test_a_point_is_checked_once_for_all_seeds(monkeypatch: pytest.MonkeyPatch):
    checked = []
    monkeypatch.setattr("gpmt.training.sweep.check_runs._check", lambda recipe, *_: checked.append(recipe))
    check_runs(make_grid("digits", ["sparsity=0.8,0.9", "seed=0,1,2"]).points, Reporter(silent=True))
    assert [(recipe.prune.sparsity, recipe.seed) for recipe in checked] == [(0.8, 0), (0.9, 0)]
