import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpmt.errors import BudgetError, CheckpointError, DataError, RecipeError
from gpmt.report.sweep import sweep_table
from gpmt.report.tables import console
from gpmt.training.run.progress import Reporter
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.sweep import child, runner
from gpmt.training.sweep.grid import Grid, make_grid
from gpmt.training.sweep.preflight import check_points
from gpmt.training.sweep.results import MEASURES, summarise
from gpmt.training.sweep.runner import Interrupted, sweep
from gpmt.training.sweep.sweep_folder import SweepFolder

SHORT = ["dense.epochs=1", "finetune.epochs=2", "dense.warmup_epochs=0", "sparsity=0.9"]
AXIS = "finetune.lr=0.1,0.05"
FIRST, SECOND = "finetune.lr=0.1", "finetune.lr=0.05"


@pytest.fixture(autouse=True, scope="module")
def _one_thread_each() -> Iterator[None]:
    """The number of threads changes the last bits of sums."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("sweeps") / "digits"
    return out, sweep(grid(), out, command="gpmt sweep digits")


@pytest.fixture
def copied(swept: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A finished sweep of the test's own."""
    return shutil.copytree(swept[0], tmp_path / "copied")


def grid(*settings: str) -> Grid:
    return make_grid("digits", [*SHORT, AXIS, *settings])


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def metrics(out: Path, run_name: str) -> dict[str, Any]:
    return json.loads((out / run_name / "metrics.json").read_text())


def test_the_grid_is_every_combination_in_a_stable_order():
    made = make_grid(
        "digits", ["sparsity=0.8,0.9", "finetune.lr=0.2", "seed=0,1"], ["GP: min_kept=0", "GP + MT:"]
    )
    assert made.axes == ("sparsity", "seed")
    assert [point.title for point in made.points][:5] == [
        "GP sparsity=0.8 seed=0",
        "GP sparsity=0.8 seed=1",
        "GP sparsity=0.9 seed=0",
        "GP sparsity=0.9 seed=1",
        "GP + MT sparsity=0.8 seed=0",
    ]
    last = made.points[-1]
    assert last.folder == "gp-mt,sparsity=0.9,seed=1"
    assert last.overrides == ("finetune.lr=0.2", "sparsity=0.9", "seed=1")
    assert (last.recipe.prune.sparsity, last.recipe.seed, last.recipe.prune.min_kept) == (0.9, 1, "0.25%")
    assert made.points[0].recipe.prune.min_kept == 0
    assert {point.recipe.finetune.lr for point in made.points} == {0.2}


def test_brackets_hold_a_list_together_and_folders_are_safe():
    made = make_grid("cifar10-resnet20", ["mean=[0.1,0.2,0.3],[0.4,0.5,0.6]", "data.root=a/b,c/d"])
    assert made.points[-1].recipe.data.mean == (0.4, 0.5, 0.6)
    assert made.points[0].folder == "mean=%5B0.1%2C0.2%2C0.3%5D,root=a%2Fb"
    long = make_grid("digits", ["checkpoint=" + ",".join("x" * 300 + end for end in "ab")])
    assert len({point.folder for point in long.points}) == 2
    assert all(len(point.folder) <= 200 for point in long.points)


def test_a_variant_replaces_what_is_set_for_all():
    made = make_grid("digits", ["min_kept=7"], ["plain:", "floor: min_kept=9 'title=two words'"])
    assert [point.recipe.prune.min_kept for point in made.points] == [7, 9]
    assert made.points[1].recipe.title == "two words"
    assert [point.folder for point in made.points] == ["plain", "floor"]


@pytest.mark.parametrize(
    ("settings", "variants", "sentence"),
    [
        (["sparsty=0.8,0.9"], [], "^override sparsty is not a key of a recipe; did you mean sparsity"),
        (["epochs=1,2"], [], "^override epochs could be dense.epochs or finetune.epochs"),
        (["seed"], [], "^override seed has no value; write key=value, or key=A,B for several$"),
        (["seed=0,,1"], [], "^seed=0,,1 has an empty value; write the values with one comma between them$"),
        (["sparsity=0.9,1.5"], [], "prune.sparsity is 1.5, but must be at least 0 and below 1"),
        (["sparsity=0.9,0.90"], [], "^sparsity=0.9 and sparsity=0.90 are the same run; leave one of them out"),
        (["seed=1", "seed=2,3"], [], "^seed is given twice; give all its values in one list, such as seed="),
        (["seed=1"], [], "^the sweep has a single run; give a list of values, such as seed=0,1,2, or --var"),
        ([], ["GP"], "^variant 'GP' has no name; write 'NAME: key=value key=value'$"),
        ([], ["min_kept=0:"], "has no name"),
        ([], ["+: min_kept=0"], "has no name"),
        ([], ["GP:", "GP: min_kept=0"], "^variant GP is given twice"),
        ([], ["GP: 'min_kept=0"], "^variant GP cannot be read .No closing quotation."),
        ([], ["GP: min_kept=0,1"], "^variant GP has several values of min_kept, but a variant has one of each"),
        (["min_kept=0,1"], ["GP: min_kept=0"], "^variant GP sets min_kept, which the grid varies; give it in"),
        ([], ["GP:", "gp plain:"], "^GP and gp plain are the same run; leave one of them out$"),
        ([], ["A+B:", "A-B: min_kept=0"], r"^A\+B and A-B would share the folder a-b; rename a variant$"),
    ],
)  # fmt: skip
def test_a_grid_that_is_not_valid(settings: list[str], variants: list[str], sentence: str):
    with pytest.raises(RecipeError, match=sentence):
        make_grid("digits", settings, variants)


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
    monkeypatch.delattr(runner, "Child")
    with pytest.raises(error, match=sentence):
        sweep(make_grid("digits", settings), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_point_is_checked_once_for_all_seeds(monkeypatch: pytest.MonkeyPatch):
    checked = []
    monkeypatch.setattr("gpmt.training.sweep.preflight._check", lambda recipe, *_: checked.append(recipe))
    check_points(make_grid("digits", ["sparsity=0.8,0.9", "seed=0,1,2"]).points, Reporter(silent=True))
    assert [(recipe.prune.sparsity, recipe.seed) for recipe in checked] == [(0.8, 0), (0.9, 0)]


def test_every_run_is_a_run_folder_and_the_results_are_theirs(swept):
    out, results = swept
    assert json.loads((out / "results.json").read_text()) == results
    assert [row["folder"] for row in results["runs"]] == [FIRST, SECOND]
    assert (results["total"], results["failed"], results["axes"]) == (2, [], ["finetune.lr"])
    for row in results["runs"]:
        theirs = metrics(out, row["folder"])
        assert row["finetuned_top1"] == theirs["finetuned"]["top1"]
        assert row["pruned_loss"] == theirs["pruned"]["loss"]
        assert (row["kept"], row["sparsity_reached"]) == (5413, theirs["sparsity"])
        assert (row["macs_sparse"], row["fewest_kept"]) == (theirs["macs"]["sparse"], 135)
        assert row["seconds"] == pytest.approx(sum(theirs["seconds"].values()))
        assert row["verified"]
    assert results["runs"][0]["finetuned_loss"] != results["runs"][1]["finetuned_loss"]
    lines = (out / "results.csv").read_text().splitlines()
    assert lines[0].startswith("variant,finetune.lr,seed,sparsity_reached,")
    assert [line.split(",")[:3] for line in lines[1:]] == [["", "0.1", "0"], ["", "0.05", "0"]]
    assert not list(out.glob("*.log"))
    about = json.loads((out / "sweep.json").read_text())
    assert about["commands"] == ["gpmt sweep digits"]
    assert about["versions"]["gpmt"]


def test_the_dense_network_is_trained_once(swept):
    out, _ = swept
    trained, taken = metrics(out, FIRST), metrics(out, SECOND)
    assert trained["dense_from"] is None
    assert Path(taken["dense_from"]) == out / FIRST
    assert taken["history"]["dense"] == trained["history"]["dense"]
    assert "dense epoch 1/1" in (out / FIRST / "log.txt").read_text()
    assert "dense epoch" not in (out / SECOND / "log.txt").read_text()


@pytest.mark.slow
def test_runs_beside_each_other_give_the_same_results(swept, tmp_path: Path):
    results = sweep(grid(), tmp_path / "sweep", jobs=2)
    assert timeless(results["runs"]) == timeless(swept[1]["runs"])
    assert metrics(tmp_path / "sweep", SECOND)["dense_from"] is not None


def test_a_sweep_that_is_interrupted_goes_on_where_it_stopped(
    swept, copied: Path, monkeypatch: pytest.MonkeyPatch
):
    """The run that trained the dense network is gone; the other one, which is finished, has it too."""
    shutil.rmtree(copied / FIRST)
    started: list[child.Child] = []

    class Watched(child.Child):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            started.append(self)

    class Clock:
        """Presses Ctrl-C once the run has a state to go on from."""

        @staticmethod
        def sleep(seconds: float) -> None:
            if (copied / FIRST / "state.pt").exists():
                raise KeyboardInterrupt
            time.sleep(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "time", Clock)
        patch.setattr(runner, "Child", Watched)
        with pytest.raises(Interrupted, match=r"^after 1 of 2 runs$"):
            sweep(grid(), copied, resume=True)
    assert len(started) == 1
    assert not started[0].running
    assert [row["folder"] for row in json.loads((copied / "results.json").read_text())["runs"]] == [SECOND]
    untouched = (copied / SECOND / "metrics.json").stat().st_mtime_ns
    results = sweep(grid(), copied, resume=True)
    assert timeless(results["runs"]) == timeless(swept[1]["runs"])
    assert Path(metrics(copied, FIRST)["dense_from"]) == copied / SECOND
    assert len(metrics(copied, FIRST)["commands"]) == 2
    assert (copied / SECOND / "metrics.json").stat().st_mtime_ns == untouched


def test_runs_without_their_dense_network_are_not_started(tmp_path: Path):
    results = sweep(grid("dense.lr=1e30"), tmp_path / "sweep")
    assert results["runs"] == results["summary"] == []
    first, second = results["failed"]
    assert first["error"].startswith(
        "the loss became nan in epoch 1 of dense; lower dense.lr, which is 1e+30"
    )
    assert second == {
        "run": SECOND,
        "folder": SECOND,
        "error": f"its dense network was to come from {FIRST}, which failed",
    }
    assert not (tmp_path / "sweep" / SECOND).exists()
    assert (tmp_path / "sweep" / "results.csv").read_text() == ""


def test_resuming_a_finished_sweep_starts_nothing(swept, copied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(runner, "Child")
    assert sweep(grid(), copied, resume=True, command="again") == swept[1]
    assert json.loads((copied / "sweep.json").read_text())["commands"] == ["gpmt sweep digits", "again"]


def test_a_grid_may_grow(copied: Path):
    larger = make_grid("digits", [*SHORT, AXIS, "seed=0,1"], ["GP: min_kept=0", "MT:"])
    adopted = SweepFolder(copied).check(larger, resume=True, force=False)
    assert [point.folder for point in adopted.points[4:]] == [
        FIRST,
        "mt,finetune.lr=0.1,seed=1",
        SECOND,
        "mt,finetune.lr=0.05,seed=1",
    ]


def test_a_grid_may_not_lose_what_is_there(copied: Path):
    for other in (make_grid("digits", [*SHORT, "finetune.lr=0.1,0.2"]), grid("finetune.momentum=0.5")):
        with pytest.raises(
            RecipeError, match=r"was started with other settings: its run finetune.lr=0.\d+ is not one of"
        ):
            sweep(other, copied, resume=True)


def test_a_folder_in_use_or_not_a_sweep_is_refused(copied: Path, tmp_path: Path):
    with pytest.raises(
        RecipeError, match="copied is not empty; choose another folder with --out, go on with"
    ):
        sweep(grid(), copied)
    with (
        SweepFolder(copied).locked(),
        pytest.raises(RecipeError, match="copied is in use by a sweep, or by a"),
    ):
        sweep(grid(), copied, resume=True)
    (copied / "sweep.json").write_text('{"runs": [')
    with pytest.raises(
        CheckpointError, match=r"sweep.json is damaged \(.*\); start the sweep anew with --force"
    ):
        sweep(grid(), copied, resume=True)
    (copied / "sweep.json").unlink()
    with pytest.raises(RecipeError, match=r"copied holds no sweep \(sweep.json is missing\)"):
        sweep(grid(), copied, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="file is a file, but a sweep needs a folder"):
        sweep(grid(), tmp_path / "file", force=True)
    with pytest.raises(RecipeError, match="jobs is 0, but must be at least 1"):
        sweep(grid(), tmp_path / "new", jobs=0)


def test_forcing_removes_runs_and_nothing_else(copied: Path):
    (copied / "notes.txt").write_text("mine")
    other = make_grid("digits", ["seed=0,1"])
    folder = SweepFolder(copied)
    folder.start(folder.check(other, resume=False, force=True), force=True, command="new")
    assert not any((copied / name).exists() for name in (FIRST, SECOND))
    assert (copied / "notes.txt").read_text() == "mine"
    document = json.loads((copied / "sweep.json").read_text())
    assert document["commands"] == ["new"]
    (copied / "sweep.json").write_text("{")
    folder.start(other, force=True, command="damaged")
    document["runs"].append({"folder": "..", "overrides": []})
    (copied / "sweep.json").write_text(json.dumps(document))
    folder.start(other, force=True, command="hostile")
    assert (copied / "notes.txt").exists()


def test_mean_and_sample_deviation_over_the_seeds():
    def row(variant: str, sparsity: str, seed: int, top1: float, pruned: float | None) -> dict[str, Any]:
        labels = {"variant": variant, "sparsity": sparsity, "seed": seed, "kept": 10}
        return {**dict.fromkeys(MEASURES), **labels, "finetuned_top1": top1, "pruned_top1": pruned}

    rows = [row("GP", "0.9", seed, 0.9 + seed / 100, 0.1) for seed in (0, 1, 2)]
    summary = summarise([*rows, row("gradual", "0.9", 0, 0.8, None)], ["sparsity", "seed"])
    first, second = summary
    assert (first["variant"], first["sparsity"], first["seeds"]) == ("GP", "0.9", [0, 1, 2])
    assert first["finetuned_top1"] == {"mean": pytest.approx(0.91), "std": pytest.approx(0.01)}
    assert first["dense_top1"] is None
    assert second["finetuned_top1"] == {"mean": 0.8, "std": None}
    out = console(file=(text := io.StringIO()))
    out.print(sweep_table(summary, ["sparsity", "seed"]))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert "variant sparsity kept pruned top-1 % fine-tuned top-1 % seeds" in lines
    assert "GP 0.9 10 10.00 ± 0.00 91.00 ± 1.00 3" in lines
    assert "gradual 0.9 10 – 80.00 ± – 1" in lines


def test_jobs_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(child, "_cores", lambda: 8)
    alone = child.environment(0, 1)
    assert "OMP_NUM_THREADS" not in alone
    assert alone["CUDA_VISIBLE_DEVICES"] == "4,6"
    shared = [child.environment(slot, 3) for slot in range(3)]
    assert [variables["OMP_NUM_THREADS"] for variables in shared] == ["2", "2", "2"]
    assert [variables["CUDA_VISIBLE_DEVICES"] for variables in shared] == ["4", "6", "4"]
    assert child.environment(0, 100)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert child.environment(0, 2)["OMP_NUM_THREADS"] == "5"


def test_a_child_that_is_killed_says_so(tmp_path: Path):
    started = child.Child(["--help"], log=tmp_path / "log", slot=0, jobs=1)
    os.kill(started._process.pid, signal.SIGKILL)
    assert started.failure() == (
        f"killed by SIGKILL, often for want of memory; {tmp_path / 'log'} has its last words"
    )
    assert not started.running


@pytest.mark.slow
def test_a_sweep_that_is_killed_keeps_others_out_until_its_run_has_ended(swept, tmp_path: Path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "gpmt", "sweep", "digits", *SHORT, AXIS, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (out / FIRST).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    with pytest.raises(RecipeError, match="in use by a sweep, or by a run that one left behind"):
        sweep(grid(), out, resume=True)
    while not RunFolder(out / FIRST).metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(3)  # until that process has ended
    assert timeless(sweep(grid(), out, resume=True)["runs"]) == timeless(swept[1]["runs"])
