import shutil
from pathlib import Path

import pytest
from tests.training.sweep.sweeps import FIRST, SECOND, read_metrics, small_grid, without_times

from gpmt.training.run.progress import Reporter
from gpmt.training.sweep.run_queue import RunQueue
from gpmt.training.sweep.runner import sweep
from gpmt.training.sweep.sweep_folder import SweepFolder


def queue(out: Path) -> RunQueue:
    """The queue of the small grid in a folder, before anything is started."""
    return RunQueue(small_grid(), SweepFolder(out), 1, Reporter(silent=True), ())


def test_in_an_empty_folder_all_runs_wait_and_the_first_trains_the_dense_network(tmp_path: Path):
    found = queue(tmp_path / "new")
    assert [point.folder for point in found.waiting] == [FIRST, SECOND]
    assert {name: point.folder for name, point in found.trainers.items()} == {FIRST: FIRST, SECOND: FIRST}
    assert (found.ended, found.results()["runs"], found.results()["total"]) == (0, [], 2)


@pytest.mark.slow
def test_finished_runs_are_taken_as_they_are(swept, copied: Path):
    found = queue(copied)
    assert found.waiting == []
    assert found.ended == 2
    assert found.results() == swept[1]


@pytest.mark.slow
def test_a_run_that_has_the_dense_network_trains_it_for_the_others(copied: Path):
    shutil.rmtree(copied / FIRST)
    found = queue(copied)
    assert [point.folder for point in found.waiting] == [FIRST]
    assert {point.folder for point in found.trainers.values()} == {SECOND}


@pytest.mark.slow
def test_the_dense_network_is_trained_once(swept):
    out, _ = swept
    trained, taken = read_metrics(out, FIRST), read_metrics(out, SECOND)
    assert trained["dense_from"] is None
    assert Path(taken["dense_from"]) == out / FIRST
    assert taken["history"]["dense"] == trained["history"]["dense"]
    assert "dense epoch 1/1" in (out / FIRST / "log.txt").read_text()
    assert "dense epoch" not in (out / SECOND / "log.txt").read_text()


@pytest.mark.slow
def test_runs_beside_each_other_give_the_same_results(swept, tmp_path: Path):
    results = sweep(small_grid(), tmp_path / "sweep", jobs=2)
    assert without_times(results["runs"]) == without_times(swept[1]["runs"])
    assert read_metrics(tmp_path / "sweep", SECOND)["dense_from"] is not None


@pytest.mark.slow
def test_runs_without_their_dense_network_are_not_started(tmp_path: Path):
    results = sweep(small_grid("dense.lr=1e30"), tmp_path / "sweep")
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
