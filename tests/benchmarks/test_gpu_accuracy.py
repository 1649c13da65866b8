"""The comparison of training methods on a GPU: a small version of it runs on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from tests.threads import one_thread

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def gpu_accuracy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_accuracy

    with one_thread():
        yield gpu_accuracy


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """The arguments of a run on eight images of two classes."""
    for split, label, index in ((s, c, i) for s in ("train", "test") for c in ("a", "b") for i in range(4)):
        folder = tmp_path / "data" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (60 * index, 255 if label == "a" else 0, 9)).save(folder / f"{index}.png")
    places = [str(tmp_path / "work"), "--data", str(tmp_path / "data"), "--device", "cpu"]
    return [*places, "--epochs", "1", "--dense-epochs", "1", "--batch-size", "4", "--sparsities", "0.9"]


def read(folder: Path) -> dict[str, dict[str, Any]]:
    document = json.loads((folder / "work" / "results.json").read_text())
    return {row["case"]: row for row in document["results"]}


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(
    gpu_accuracy: ModuleType, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*small, "--jobs", "1", "--seeds", "0", "--only"]
    assert gpu_accuracy.main([*arguments, "gradual"]) == 0
    first = read(tmp_path)
    assert set(first) == {"dense", "gradual"}
    assert sum(first["gradual"]["kept"].values()) == 26_783  # of 267,824: two classes
    assert gpu_accuracy.main([*arguments, "GP", "gradual"]) == 0
    assert read(tmp_path) == first | {"GP": read(tmp_path)["GP"]}
    assert "gradual at 90.0%" not in capsys.readouterr().out.split("GP at 90.0%")[1]
    assert gpu_accuracy.main([*arguments, "LAMP", "--seconds", "-1"]) == 0
    assert read(tmp_path)["LAMP"]["detail"] == "the time is over"


def test_a_failure_is_listed_and_does_not_stop_the_others(
    gpu_accuracy: ModuleType, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # AC/DC needs at least five steps, and there are two.
    arguments = [*small, "--jobs", "1", "--seeds", "0", "--only", "AC/DC", "LAMP"]
    assert gpu_accuracy.main(arguments) == 1
    found = read(tmp_path)
    assert found["AC/DC"]["status"] == "FAILED"
    assert "AC/DC needs at least" in found["AC/DC"]["detail"]
    assert found["LAMP"]["status"] == "ok"
    assert "2 ok, 1 FAILED, 0 not run" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_run(
    gpu_accuracy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_accuracy.main([str(tmp_path / "work"), "--data", str(tmp_path)]) == 0
    assert "PyTorch finds no GPU here, so nothing is run" in capsys.readouterr().out
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_every_case_runs_in_processes_of_their_own_without_pydantic(small: list[str], tmp_path: Path) -> None:
    for name in ("pydantic", "accelerate"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    command = [sys.executable, str(BENCHMARKS / "gpu_accuracy.py"), *small, "--jobs", "2", "--seeds", "0"]
    done = subprocess.run(
        [*command, "--epochs", "6"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["status"] for row in read(tmp_path).values()} == {"ok"}
