import json
from pathlib import Path

import pytest
from tests.runs.examples import finished_run, stopped_run, sweep

from gpmt.errors import CheckpointError
from gpmt.runs.found import GridSummary, find_runs, read_grid
from gpmt.runs.log import locked


def test_runs_and_sweeps_are_found_by_name(tmp_path: Path):
    finished_run(tmp_path / "b/one")
    finished_run(tmp_path / "a")
    finished_run(tmp_path / "a/below")  # is part of a
    finished_run(tmp_path / ".hidden/run")
    sweep(tmp_path / "c/sweep", "x", "y")
    (tmp_path / "c/link").symlink_to(tmp_path / "b")
    found = list(find_runs(tmp_path))
    assert [str(run.path.relative_to(tmp_path)) for run in found] == ["a", "b/one", "c/sweep"]
    grid = found[-1]
    assert isinstance(grid, GridSummary)
    assert [run.path.name for run in grid.runs] == ["x", "y"]
    assert [run.path for run in find_runs(tmp_path / "a")] == [tmp_path / "a"]


def test_a_folder_that_is_none(tmp_path: Path):
    for path, problem in ((tmp_path / "none", "does not exist"), (tmp_path / "file", "is not a folder")):
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError) as raised:
            list(find_runs(path))
        assert str(raised.value) == f"{path} {problem}; give one with runs in it or below it"


def test_a_finished_sweep(tmp_path: Path):
    grid = read_grid(sweep(tmp_path / "sweep", "x", "y"))
    assert (grid.kind, grid.title, grid.state, grid.note) == ("sweep", "a sweep", "finished", "")
    assert (grid.finished, grid.total, grid.seconds) == (2, 2, 15.0)
    assert (grid.sparsity, grid.top1, grid.when) == (0.91, 0.875, "2026-01-01T10:00:08+00:00")
    (tmp_path / "sweep/comparison.json").write_text("{}")
    assert read_grid(tmp_path / "sweep").kind == "comparison"


def test_a_sweep_that_is_not_finished(tmp_path: Path):
    path = sweep(tmp_path / "sweep", "x", missing=2)
    grid = read_grid(path)
    assert (grid.state, grid.finished, grid.total, len(grid.runs)) == ("interrupted", 1, 3, 1)
    with locked(path / ".lock"):
        assert read_grid(path).state == "running"
    results = json.loads((path / "results.json").read_text())
    (path / "results.json").write_text(json.dumps(results | {"infeasible": [{"run": "a"}, {"run": "b"}]}))
    assert read_grid(path).state == "finished"


def test_failures_are_those_that_the_sweep_wrote(tmp_path: Path):
    failed = {"y": "the loss became nan", "z": "killed by SIGKILL"}
    path = sweep(tmp_path / "sweep", "x", failed=failed)
    stopped_run(path / "y")
    grid = read_grid(path)
    assert [(run.path.name, run.state) for run in grid.runs] == [
        ("x", "finished"),
        ("y", "diverged"),
        ("z", "failed"),
    ]
    assert (grid.state, grid.note) == ("failed", "y diverged: the loss became nan, and 1 more")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"runs": 3}', '{"runs": [1, {"folder": "../outside"}, {"folder": 2}]}']
)
def test_a_damaged_sweep(tmp_path: Path, content: str):
    path = sweep(tmp_path / "sweep", "x")
    finished_run(tmp_path / "outside")
    (path / "sweep.json").write_text(content)
    grid = read_grid(path)
    if "outside" in content:
        assert list(grid.runs) == []
    else:
        assert grid.state == "damaged"
        assert grid.note.startswith("sweep.json is damaged: ")
        assert [run.path.name for run in grid.runs] == ["x"]
