import json
from pathlib import Path

import pytest
from tests.training.sweep.sweeps import AXIS, FIRST, SECOND, SHORT, small_grid

from gpmt.errors import CheckpointError, RecipeError
from gpmt.training.sweep.grid import make_grid
from gpmt.training.sweep.runner import sweep
from gpmt.training.sweep.sweep_folder import SweepFolder


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A sweep with the folders of its runs, in which nothing is trained."""
    out = tmp_path / "started"
    out.mkdir()
    SweepFolder(out).start(small_grid(), force=False, command="gpmt sweep digits")
    for name in (FIRST, SECOND):
        (out / name).mkdir()
    return out


def test_a_grid_may_grow(started: Path):
    larger = make_grid("digits", [*SHORT, AXIS, "seed=0,1"], ["GP: min_kept=0", "MT:"])
    adopted = SweepFolder(started).check(larger, resume=True, force=False)
    assert [point.folder for point in adopted.points[4:]] == [
        FIRST,
        "mt,finetune.lr=0.1,seed=1",
        SECOND,
        "mt,finetune.lr=0.05,seed=1",
    ]


def test_a_grid_may_not_lose_what_is_there(started: Path):
    for other in (make_grid("digits", [*SHORT, "finetune.lr=0.1,0.2"]), small_grid("finetune.momentum=0.5")):
        with pytest.raises(
            RecipeError, match=r"was started with other settings: its run finetune.lr=0.\d+ is not one of"
        ):
            sweep(other, started, resume=True)


def test_a_folder_in_use_or_not_a_sweep_is_refused(started: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match="started is not empty; choose another folder with -o, go on with"):
        sweep(small_grid(), started)
    with (
        SweepFolder(started).locked(),
        pytest.raises(RecipeError, match="started is in use by a sweep, or by a"),
    ):
        sweep(small_grid(), started, resume=True, infeasible={})  # so that no run is checked
    (started / "sweep.json").write_text('{"runs": [')
    with pytest.raises(
        CheckpointError, match=r"sweep.json is damaged \(.*\); start the sweep anew with --force"
    ):
        sweep(small_grid(), started, resume=True)
    (started / "sweep.json").unlink()
    with pytest.raises(RecipeError, match=r"started does not hold a sweep \(sweep.json is missing\)"):
        sweep(small_grid(), started, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="file is a file, but a sweep needs a folder"):
        sweep(small_grid(), tmp_path / "file", force=True)
    with pytest.raises(RecipeError, match="jobs is 0, but must be at least 1"):
        sweep(small_grid(), tmp_path / "new", jobs=0)


def test_forcing_removes_runs_and_nothing_else(started: Path):
    (started / "notes.txt").write_text("mine")
    other = make_grid("digits", ["seed=0,1"])
    folder = SweepFolder(started)
    folder.start(folder.check(other, resume=False, force=True), force=True, command="new")
    assert not any((started / name).exists() for name in (FIRST, SECOND))
    assert (started / "notes.txt").read_text() == "mine"
    document = json.loads((started / "sweep.json").read_text())
    assert document["commands"] == ["new"]
    (started / "sweep.json").write_text("{")
    folder.start(other, force=True, command="damaged")
    document["runs"].append({"folder": "..", "overrides": []})
    (started / "sweep.json").write_text(json.dumps(document))
    folder.start(other, force=True, command="hostile")
    assert (started / "notes.txt").exists()
