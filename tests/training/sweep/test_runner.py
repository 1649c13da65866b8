import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.training.sweep.sweeps import AXIS, FIRST, SECOND, SHORT, read_metrics, small_grid, without_times
from tests.waiting import wait_until

from gpmt.errors import RecipeError
from gpmt.training.run.run_folder import RunFolder
from gpmt.training.sweep import run_queue
from gpmt.training.sweep.run_process import RunProcess
from gpmt.training.sweep.runner import Interrupted, sweep
from gpmt.training.sweep.sweep_folder import SweepFolder


@pytest.mark.slow
def test_every_run_is_a_run_folder_and_the_results_are_theirs(swept):
    out, results = swept
    assert json.loads((out / "results.json").read_text()) == results
    assert [row["folder"] for row in results["runs"]] == [FIRST, SECOND]
    assert (results["total"], results["failed"], results["axes"]) == (2, [], ["finetune.lr"])
    for row in results["runs"]:
        theirs = read_metrics(out, row["folder"])
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


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_goes_on_where_it_stopped(
    swept, copied: Path, monkeypatch: pytest.MonkeyPatch
):
    """The run that trained the dense network is gone; the other one, which is finished, has it too."""
    shutil.rmtree(copied / FIRST)
    started: list[RunProcess] = []

    class Recorded(RunProcess):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            started.append(self)

    class Clock:
        """Presses Ctrl-C as soon as the run has a state to go on from."""

        @staticmethod
        def sleep(seconds: float) -> None:
            wait_until((copied / FIRST / "state.pt").exists)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_queue, "time", Clock)
        patch.setattr(run_queue, "RunProcess", Recorded)
        with pytest.raises(Interrupted, match=r"^after 1 of 2 runs$"):
            sweep(small_grid(), copied, resume=True)
    assert len(started) == 1
    assert not started[0].running
    assert [row["folder"] for row in json.loads((copied / "results.json").read_text())["runs"]] == [SECOND]
    untouched = (copied / SECOND / "metrics.json").stat().st_mtime_ns
    results = sweep(small_grid(), copied, resume=True)
    assert without_times(results["runs"]) == without_times(swept[1]["runs"])
    assert Path(read_metrics(copied, FIRST)["dense_from"]) == copied / SECOND
    assert len(read_metrics(copied, FIRST)["commands"]) == 2
    assert (copied / SECOND / "metrics.json").stat().st_mtime_ns == untouched


@pytest.mark.slow
def test_resuming_a_finished_sweep_starts_nothing(swept, copied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(run_queue, "RunProcess")
    assert sweep(small_grid(), copied, resume=True, command="again") == swept[1]
    assert json.loads((copied / "sweep.json").read_text())["commands"] == ["gpmt sweep digits", "again"]


def is_locked(out: Path) -> bool:
    try:
        with SweepFolder(out).locked():
            return False
    except RecipeError:
        return True


@pytest.mark.slow
def test_a_sweep_that_is_killed_keeps_others_out_until_its_run_has_ended(swept, tmp_path: Path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "gpmt", "sweep", "digits", *SHORT, AXIS, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until((out / FIRST).exists)
    process.kill()
    process.wait()
    with pytest.raises(RecipeError, match="in use by a sweep, or by a run of a killed one"):
        sweep(small_grid(), out, resume=True)
    wait_until(lambda: not is_locked(out))
    assert RunFolder(out / FIRST).metrics.exists()
    assert without_times(sweep(small_grid(), out, resume=True)["runs"]) == without_times(swept[1]["runs"])
