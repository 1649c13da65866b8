import csv
import shutil
from pathlib import Path

import pytest
from tests.training.run.runs import FILES, digits_recipe, file_names, same_weights, short_recipe

from gpmt.errors import CheckpointError, RecipeError
from gpmt.training.run.run import Stopped, run


def test_an_existing_run_is_overwritten_only_when_forced(finished, small, tmp_path: Path):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "notes.txt").write_text("mine")
    recipe = small("dense.epochs=1", "finetune.epochs=0")
    with pytest.raises(
        RecipeError, match=r"run is not empty; choose another folder with -o, go on with --resume"
    ):
        run(recipe, out)
    assert same_weights(out / "model.pt", finished[0] / "model.pt")
    metrics = run(recipe, out, force=True)
    assert len(metrics["history"]["dense"]) == 2
    assert file_names(out) == (FILES - {"best.pt"}) | {"notes.txt"}  # of no epoch is the best
    assert "epoch 2/2" not in (out / "log.txt").read_text()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path):
    (tmp_path / "run").write_text("")
    for options in ({}, {"force": True}, {"resume": True}):
        with pytest.raises((RecipeError, CheckpointError), match="run"):
            run(digits_recipe(), tmp_path / "run", **options)
    assert (tmp_path / "run").read_text() == ""


def test_curves_are_written_as_csv_and_for_tensorboard(tmp_path: Path):
    out = tmp_path / "run"
    with pytest.raises(Stopped):
        run(short_recipe(), out, max_epochs=3, tensorboard=True)
    run(short_recipe(), out, resume=True)
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["epoch"]) for row in rows] == [
        (name, str(epoch)) for name in ("dense", "finetune") for epoch in range(3)
    ]
    assert float(rows[-1]["sparsity"]) == pytest.approx(0.93, abs=1e-4)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("finetune/test_top1")] == [0, 1, 2]
    assert events.Scalars("dense/test_top1")[2].value == pytest.approx(float(rows[2]["test_top1"]))
