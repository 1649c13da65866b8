"""A run that stops anywhere goes on to the result of one that does not."""

from pathlib import Path

import pytest
import torch
from tests.training.run.runs import (
    FILES,
    comparable,
    digits_recipe,
    file_names,
    interrupt,
    same_weights,
    short_recipe,
)

from gpmt.errors import CheckpointError, RecipeError
from gpmt.masks import Masks
from gpmt.runs.run_summary import read_run
from gpmt.training.run.run import Interrupted, run

EVERYTHING = (
    "schedule=gradual", "interval=0.4", "finetune.ema=0.9", "finetune.distill=0.5", "finetune.accumulate=3",
    "finetune.clip_norm=1", "finetune.lr_per_step=true", "finetune.decay_norms=false", "finetune.optimizer=adamw",
    "finetune.nesterov=false", "finetune.lr=0.01",
)  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(EVERYTHING, id="gradual and all else"),
        pytest.param(("schedule=ac-dc", "finetune.epochs=5"), id="ac-dc", marks=pytest.mark.slow),
        pytest.param(("recalibrate=100", "start=0"), id="one-shot"),
    ],
)
def test_a_run_stopped_anywhere_goes_on_to_the_same_weights(
    dense: Path, tmp_path: Path, monkeypatch, overrides
):
    recipe = short_recipe(*overrides)
    whole = run(recipe, tmp_path / "whole", dense_from=dense)
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=2)
        with pytest.raises(Interrupted, match=r"in epoch 2 of . of finetune"):
            run(recipe, tmp_path / "parts", dense_from=dense)
    listed = read_run(tmp_path / "parts")
    assert (listed.state, listed.epochs) == ("interrupted", 3)
    assert listed.note.startswith("in epoch 2 of ")
    parts = run(recipe, tmp_path / "parts", resume=True)
    for file in ("model.pt", "best.pt", "dense.pt"):
        assert same_weights(tmp_path / "whole" / file, tmp_path / "parts" / file)
    assert Masks.load(tmp_path / "parts/masks.safetensors") == Masks.load(
        tmp_path / "whole/masks.safetensors"
    )
    for key in ("dense", "pruned", "recalibrated", "finetuned", "plan", "best", "kept"):
        assert parts[key] == whole[key]
    assert whole["verification"]["ok"]
    assert whole["weights"] - whole["kept"] == whole["weights"] * 93 // 100


@pytest.mark.parametrize(
    ("epochs", "phrase"),
    [
        (1, "in epoch 2 of 2 of dense"),
        (3, "in epoch 2 of 2 of finetune"),
    ],
)
def test_a_resumed_run_equals_one_that_was_not_stopped(
    finished, small, tmp_path: Path, monkeypatch, epochs, phrase
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=epochs + 1, images=20)
        with pytest.raises(Interrupted, match=f"^{phrase}$"):
            run(small(), out, command="first")
    assert "metrics.json" not in file_names(out)
    metrics = run(small(), out, resume=True, command="second")
    assert comparable(metrics) == comparable(finished[1])
    assert metrics["commands"] == ["first", "second"]
    assert same_weights(out / "model.pt", finished[0] / "model.pt")
    assert file_names(out) == FILES


def test_a_run_killed_while_it_writes_goes_on(finished, small, tmp_path: Path, monkeypatch):
    """After the last state and before the metrics, everything that follows is done again."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(
            "gpmt.training.run.metrics.verify", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(Interrupted):
            run(small(), out)
    (out / "model.pt").unlink()
    assert comparable(run(small(), out, resume=True)) == comparable(finished[1])
    assert same_weights(out / "model.pt", finished[0] / "model.pt")


def test_resuming_a_finished_run_returns_it_unchanged(finished, small):
    out, metrics = finished
    before = (out / "metrics.json").stat().st_mtime_ns
    assert run(small(), out, resume=True) == metrics
    assert (out / "metrics.json").stat().st_mtime_ns == before


def test_resuming_where_nothing_is_is_refused(small, tmp_path: Path):
    with pytest.raises(RecipeError, match="run does not exist, so there is nothing to go on with; leave out"):
        run(small(), tmp_path / "run", resume=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="empty holds no run, so there is nothing to go on with; leave out"):
        run(small(), tmp_path / "empty", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_resuming_with_another_recipe_is_refused(finished, small):
    with pytest.raises(
        RecipeError, match=r"another recipe \(finetune.lr 0.01 there, 0.2 now\); go on with `gpmt run"
    ):
        run(small("finetune.lr=0.2"), finished[0], resume=True)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "state.pt is damaged"),
        (lambda path: torch.save({"version": 99}, path), "state.pt has version 99, but this gpmt goes on from"),
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_used_is_refused(tmp_path: Path, monkeypatch, damage, sentence):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=1)
        with pytest.raises(Interrupted):
            run(digits_recipe(), out)
    damage(out / "state.pt")
    with pytest.raises(CheckpointError, match=sentence):
        run(digits_recipe(), out, resume=True)
