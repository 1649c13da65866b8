"""Runs in experiment trackers, read back from what the tools have written."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.training.run.runs import FEW_IMAGES, GPMT, ONE_THREAD, SHORT, digits_recipe, short_recipe

from gpmt.errors import GpmtError, RecipeError
from gpmt.training.run.progress import Reporter
from gpmt.training.run.run import run
from gpmt.training.run.trackers import Trackers, epoch_rows
from gpmt.warning import GpmtWarning

TOOLS = ("wandb", "mlflow", "trackio", "tensorboard")
OWN_VARIABLES = ("WANDB_", "MLFLOW_", "TRACKIO_")


def environment(**variables: str) -> dict[str, str]:
    """Return the variables of this process without those that tell trackers where to write, and with others."""
    kept = {name: value for name, value in ONE_THREAD.items() if not name.startswith(OWN_VARIABLES)}
    return kept | variables


def together(*arguments: str, code: int, **variables: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [*GPMT, "run", "digits", *SHORT, *FEW_IMAGES, *arguments],
        env=environment(**variables), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    return result


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped in the middle of fine-tuning and went on, in all trackers."""
    for name in TOOLS:
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("trackers")
    out, store = folder / "run", str(folder / "trackio")
    arguments = (f"log={','.join(TOOLS)}", "--out", str(out), "--json")
    together(*arguments, "--max-epochs", "3", code=3, TRACKIO_DIR=store)
    result = together(*arguments, "--resume", code=0, TRACKIO_DIR=store)
    assert json.loads(result.stdout)["verified"]  # nothing else is on stdout
    assert "wandb sync" in result.stderr
    return out


def expected(out: Path, key: str) -> list[tuple[int, float]]:
    """Return what all epochs measured of a value, with their steps."""
    metrics = json.loads((out / "metrics.json").read_text())
    rows = epoch_rows(metrics["history"])
    return [(row.step, row.values[key]) for row in rows if key in row.values]


KEYS = ("dense/test_top1", "finetune/test_top1", "finetune/train_loss", "sparsity")


@pytest.mark.slow
def test_mlflow(logged: Path):
    code = f"""
import json, sys, mlflow
mlflow.set_tracking_uri({(logged / "trackers/mlruns").as_uri()!r})
[run] = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("gpmt").experiment_id])
history = lambda key: [(m.step, m.value) for m in mlflow.MlflowClient().get_metric_history(run.info.run_id, key)]
print(json.dumps([run.info.run_name, run.info.status, run.data.params, run.data.metrics,
                  {{key: history(key) for key in {KEYS!r}}}, history("pruning/kept")]))
"""
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment(MLFLOW_ALLOW_FILE_STORE="true"), capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    name, status, parameters, last, histories, pruning = json.loads(printed)
    assert (name, status) == ("run", "FINISHED")
    assert parameters["prune.sparsity"] == "0.93"
    metrics = json.loads((logged / "metrics.json").read_text())
    assert last["final/finetuned_top1"] == metrics["finetuned"]["top1"]
    assert last["final/macs_sparse"] == metrics["macs"]["sparse"]
    for key in KEYS:
        assert [tuple(each) for each in histories[key]] == expected(logged, key), key
    assert pruning == [[2, metrics["kept"]]]  # after two dense epochs


@pytest.mark.slow
def test_trackio(logged: Path):
    [path] = (logged.parent / "trackio").glob("*.db")
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
    assert len({name for name, *_ in rows}) == 1
    assert rows[0][0].startswith("run-")
    told = [(step, json.loads(values)) for _, step, values in rows]
    for key in KEYS:
        assert [(step, values[key]) for step, values in told if key in values] == expected(logged, key), key
    assert sum("pruning/kept" in values for _, values in told) == 1
    assert sum("final/finetuned_top1" in values for _, values in told) == 1


@pytest.mark.slow
def test_wandb_without_a_network(logged: Path):
    files = sorted((logged / "trackers/wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2  # wandb sync joins them, since they have one name
    assert len({file.name for file in files}) == 1
    told = [row for file in files for row in wandb_history(file)]
    for key in KEYS:
        found = [(row["_step"], row[key]) for row in told if key in row]
        assert found == [(step, pytest.approx(value)) for step, value in expected(logged, key)], key
    assert [row["_step"] for row in told if "pruning/kept" in row] == [2]
    assert told[-1]["final/sparsity"] == pytest.approx(0.93, abs=1e-4)


def log_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log of LevelDB, in blocks of 32 KiB, after a head of 7 bytes."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        if kind == 0:  # the padding of a block
            place = -(-place // 32_768) * 32_768
            continue
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if 32_768 - place % 32_768 < 7:
            place = -(-place // 32_768) * 32_768
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def wandb_history(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows in a file of Weights & Biases."""
    from wandb.proto import wandb_internal_pb2

    for data in log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


@pytest.mark.slow
def test_tensorboard(logged: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("finetune/test_top1")] == [0, 1, 2]
    assert "recipe/text_summary" in events.Tags()["tensors"]


@pytest.mark.slow
def test_variables_of_the_user_say_where(tmp_path: Path):
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    out, store = tmp_path / "run", tmp_path / "mine"
    variables = {
        "MLFLOW_TRACKING_URI": store.as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true", "WANDB_MODE": "disabled",
    }  # fmt: skip
    together("log=mlflow,wandb", "--out", str(out), "--max-epochs", "1", "-q", code=3, **variables)
    assert any(store.glob("*/*/metrics/dense/test_top1"))
    assert not any((out / "trackers").glob("mlruns"))
    assert not any((out / "trackers").glob("wandb/offline-run-*"))


def test_epochs_are_counted_over_both_phases():
    history = {
        "dense": [
            {"epoch": 0, "test": {"top1": 0.1}},
            {"epoch": 1, "test": {"top1": 0.5}, "lr": 0.1, "x": None},
        ],
        "finetune": [
            {"epoch": 0, "test": {"top1": 0.2}},
            {"epoch": 1, "test": {"top1": 0.6}, "sparsity": 0.9},
        ],
    }
    rows = epoch_rows(history)
    assert [(row.phase, row.step) for row in rows] == [
        ("dense", 0),
        ("dense", 1),
        ("finetune", 1),
        ("finetune", 2),
    ]
    assert rows[1].values == {"dense/test_top1": 0.5, "dense/lr": 0.1, "epoch": 1}
    assert rows[3].values == {
        "finetune/test_top1": 0.6, "finetune/sparsity": 0.9, "sparsity": 0.9, "epoch": 2,
    }  # fmt: skip
    assert epoch_rows({"dense": [], "finetune": []}) == []


def test_a_tracker_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RecipeError) as raised:
        run(digits_recipe("log=wandb"), tmp_path / "run")
    assert str(raised.value) == (
        "wandb is not installed; pip install wandb brings it, pip install '.[trackers]' in gpmt's folder all of "
        "trackers"
    )
    assert list(tmp_path.iterdir()) == []


def test_notes_that_are_damaged(tmp_path: Path):
    (tmp_path / "trackers").mkdir()
    for content in ("{", '{"wandb": {"id": 1}}', "[1]"):
        (tmp_path / "trackers/state.json").write_text(content)
        trackers = Trackers(short_recipe("log=wandb"), tmp_path, Reporter(quiet=True))
        with (
            pytest.raises(GpmtError, match=r"state.json is damaged .*; remove it to log all epochs anew"),
            trackers.started(resume=True),
        ):
            pass


@pytest.mark.slow
def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mlflow = pytest.importorskip("mlflow")
    for name in [name for name in os.environ if name.startswith(OWN_VARIABLES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mlflow, "log_metrics", full)
        with pytest.warns(GpmtWarning, match="mlflow cannot be written to .no space left"):
            assert run(short_recipe("log=mlflow"), tmp_path / "run", dense_from=dense)["verified"]
        patch.setattr(mlflow, "start_run", full)
        with pytest.raises(GpmtError, match=r"log=mlflow cannot be started .no space left.*; leave it out"):
            run(short_recipe("log=mlflow"), tmp_path / "other", dense_from=dense)
    assert "MLFLOW_TRACKING_URI" not in os.environ
