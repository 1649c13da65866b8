import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpmt.errors import BudgetError, RecipeError
from gpmt.report.content.read import read_report
from gpmt.training.compare.comparison import Comparison, make_comparison
from gpmt.training.compare.runner import FILES, compare, preview
from gpmt.training.sweep import run_queue
from gpmt.training.sweep.sweep_folder import SweepFolder

TINY = ["data.train_limit=200", "data.test_limit=100", "dense.warmup_epochs=0"]


def tiny(*settings: str, **changes: Any) -> Comparison:
    asked = {"methods": ["GP", "gradual"], "sparsities": ["0.9"], "seeds": [0], "epochs": 2}
    return make_comparison("digits", [*TINY, *settings], **asked | changes)


def test_a_preview_tells_every_run_and_shares_dense_networks(tmp_path: Path):
    found = preview(tiny(seeds=[0, 1], min_kept="0.25%"), tmp_path / "new")
    assert found["epochs"] == 2
    assert all(sum(run["epochs"].values()) == 2 for run in found["runs"])
    left = {(run["variant"], run["seed"]): run["trains"] for run in found["runs"]}
    assert left == {
        **{("dense", seed): 2 for seed in "01"},
        **{("GP", seed): 2 for seed in "01"},
        **{("GP+MT", seed): 1 for seed in "01"},
        **{(name, seed): 2 for name in ("gradual", "gradual+MT") for seed in "01"},
    }
    assert list(tmp_path.iterdir()) == []


def test_floors_that_do_not_fit_are_infeasible_alone(tmp_path: Path):
    found = preview(tiny(sparsities=["0.5", "0.99"], min_kept="2%"), tmp_path / "new")
    refused = {(run["variant"], run["sparsity"]) for run in found["runs"] if run["infeasible"]}
    assert refused == {("GP+MT", "0.99"), ("gradual+MT", "0.99")}
    assert all(run["trains"] == 0 for run in found["runs"] if run["infeasible"])


def test_nothing_starts_where_no_method_is_feasible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(run_queue, "RunProcess")
    impossible = tiny(methods=["GP+MT"], sparsities=["0.99"], min_kept="2%")
    with pytest.raises(BudgetError, match=r"^GP\+MT sparsity=0.99 seed=0: sparsity 0.99 keeps 542 of 54,128"):
        compare(impossible, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_hold_something_else_are_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for name, resume, sentence in (
        ("file", False, "file is a file, but a comparison needs a folder; choose another with -o"),
        ("full", False, "full is not empty; .* or start the comparison in it anew with --force"),
        ("full", True, r"full does not hold a comparison \(sweep.json is missing\)"),
        ("none", True, "none does not exist, so there is nothing to go on with"),
    ):
        with pytest.raises(RecipeError, match=sentence):
            preview(tiny(), tmp_path / name, resume=resume)
    with pytest.raises(RecipeError, match=r"^jobs is 0, but must be at least 1$"):
        compare(tiny(), tmp_path / "none", jobs=0)


def test_resuming_may_leave_runs_out(tmp_path: Path):
    """Fewer methods, sparsities and seeds: the others are kept, and come back when they are asked for again."""
    whole = tiny(sparsities=["0.9", "0.95"], seeds=[0, 1])
    folder = SweepFolder(tmp_path, "comparison", partial=True)
    folder.start(whole.grid, force=False, command="gpmt compare digits")
    for point in whole.grid.points:
        (tmp_path / point.folder).mkdir()
        (tmp_path / point.folder / "notes.txt").write_text("kept")
    less = tiny(methods=["GP", "AC/DC"])
    assert {run["variant"] for run in preview(less, tmp_path, resume=True)["runs"]} == {
        "dense", "GP", "GP+MT", "AC/DC", "AC/DC+MT",
    }  # fmt: skip
    grid = folder.check(less.grid, resume=True, force=False)
    left_out = folder.left_out(grid)
    assert len(left_out) == len(whole.grid.points) - 3
    folder.start(grid, force=False, command="gpmt compare digits --methods GP,AC/DC --resume")
    assert len(json.loads(folder.sweep.read_text())["runs"]) == 5
    assert folder.left_out(whole.grid) == [
        run for run in folder.left_out(whole.grid) if "AC/DC" in run["variant"]
    ]
    again = folder.check(whole.grid, resume=True, force=False)
    assert [point.folder for point in again.points] == [point.folder for point in whole.grid.points]
    assert all((tmp_path / point.folder / "notes.txt").exists() for point in whole.grid.points)
    folder.start(again, force=True, command="gpmt compare digits --force")
    assert not any((tmp_path / point.folder).exists() for point in (*whole.grid.points, *grid.points))


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (["finetune.lr=0.5"], {"seeds": [0]}),  # the same runs with another setting
        (["dense.batch_size=32"], {"methods": ["GP"], "seeds": [0]}),
        ([], {"seeds": [7]}),  # none of the earlier runs
    ],
)
def test_resuming_with_other_settings_is_refused(
    tmp_path: Path, settings: list[str], changes: dict[str, Any]
):
    folder = SweepFolder(tmp_path, "comparison", partial=True)
    folder.start(tiny(seeds=[0, 1]).grid, force=False, command="")
    before = folder.sweep.read_text()
    with pytest.raises(
        RecipeError, match=r"was started with other settings: its run dense sparsity=0 seed=0 is not"
    ):
        preview(tiny(*settings, **changes), tmp_path, resume=True)
    assert folder.sweep.read_text() == before


@pytest.mark.slow
def test_a_comparison_from_start_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """One method diverges, one floor is infeasible; the page is there, resuming starts what is left, and it grows."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "compared"
    first = tiny("finetune.lr=1e30", min_kept="2%")
    found = compare(first, out, command="gpmt compare digits")
    gp, gp_mt, gradual, gradual_mt = (row["cells"][0] for row in found["rows"])
    assert (gp["diverged"], gp["finetuned_top1"]) == ([0], None)
    assert gp_mt["infeasible"].startswith("sparsity 0.9 keeps 5,413 of 54,128 weights, but the minimum of")
    assert gradual_mt["infeasible"] == gp_mt["infeasible"]
    assert gradual["best"]
    assert gradual["kept"]["mean"] == 5413
    assert json.loads((out / "comparison.json").read_text()) == found
    page = (out / "comparison.md").read_text()
    assert "| GP | – | diverged | 1 + 1 | – |" in page
    assert "gpmt compare digits\n" in page
    rows = list(csv.DictReader((out / "comparison.csv").read_text().splitlines()))
    assert [(row["method"], row["floor"], row["diverged"]) for row in rows] == [
        ("dense", "", "0"),
        ("GP", "", "1"),
        ("GP", "2%", "0"),
        ("gradual", "", "0"),
        ("gradual", "2%", "0"),
    ]
    assert sum(run["trains"] for run in preview(first, out, resume=True)["runs"]) == 1
    assert sum(run["trains"] for run in preview(first, out, force=True)["runs"]) == 6

    shutil.rmtree(out / "gradual,sparsity=0.9,seed=0")
    finished = (out / "dense,sparsity=0,seed=0" / "metrics.json").stat().st_mtime_ns
    grown = tiny("finetune.lr=1e30", min_kept="2%", methods=["GP", "gradual", "AC/DC"])
    again = compare(grown, out, resume=True)
    repeated = again["rows"][2]["cells"][0]
    assert repeated["finetuned_top1"] == gradual["finetuned_top1"]
    assert again["rows"][4]["cells"][0]["seeds"] == [0]
    assert (out / "dense,sparsity=0,seed=0" / "metrics.json").stat().st_mtime_ns == finished
    assert all((out / name).exists() for name in FILES)

    less = compare(tiny("finetune.lr=1e30", min_kept="none", methods=["gradual"]), out, resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "not part of this comparison; kept as they are" in said
    assert [row["method"] for row in less["rows"]] == ["gradual"]
    assert less["rows"][0]["cells"][0]["finetuned_top1"] == gradual["finetuned_top1"]
    assert (less["total"], less["finished"]) == (2, 2)
    assert len(read_report([out]).grids[0].runs) == 2
    left_out = [point for point in grown.grid.points if point.variant == "AC/DC"]
    assert all((out / point.folder / "metrics.json").exists() for point in left_out)

    with pytest.raises(RecipeError, match="was started with other settings: its run dense sparsity=0 seed=0"):
        compare(tiny(), out, resume=True)
