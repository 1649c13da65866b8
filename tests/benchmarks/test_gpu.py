"""The checks that need a GPU: what of them means something on a CPU passes there; the rest is listed as not run."""

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
from tests.threads import one_thread

from gpmt.extras_private import reset_accelerator_state

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
CPU = torch.device("cpu")

FAST = ("apply", "clip", "data", "default-device", "deterministic", "offloaded", "processes")
SLOW = ("compiled-step", "digits", "digits-loop", "masks", "no-waiting", "scaler", "step-cost")
GPU_ONLY = {
    "graph": "CUDA graphs need a GPU",
    "memory": "measurements of its memory need a GPU",
    "stream": "streams need a GPU",
    "tests": "these need a GPU",
}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import gpu

    with one_thread():
        yield gpu
    reset_accelerator_state()


def run(gpu: ModuleType, folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = gpu.main([*arguments, "--json", str(folder / "gpu.json")])
    results = json.loads((folder / "gpu.json").read_text())
    return code, {each["name"]: each for each in results["checks"]}


def test_every_check_is_listed_here(gpu: ModuleType) -> None:
    assert {each.name for each in gpu.CHECKS} == {*FAST, *SLOW, *GPU_ONLY}
    assert len(gpu.CHECKS) == len({each.name for each in gpu.CHECKS})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_all_are_listed_as_not_run(gpu: ModuleType, tmp_path: Path, capsys: Any) -> None:
    code, results = run(gpu, tmp_path)
    assert code == 0
    assert len(results) == len(gpu.CHECKS)
    assert {(each["status"], each["detail"]) for each in results.values()} == {
        ("not run", "there is no GPU here")
    }
    printed = capsys.readouterr().out
    assert "PyTorch finds no GPU here, so no check is run" in printed
    assert printed.splitlines()[-1] == f"0 ok, 0 FAILED, {len(results)} not run"


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
@pytest.mark.filterwarnings("default")
def test_a_check_passes_on_a_cpu(gpu: ModuleType, tmp_path: Path, name: str) -> None:
    code, results = run(gpu, tmp_path, "--device", "cpu", "--only", name)
    assert results[name]["status"] == "ok", results[name]["trace"]
    assert results[name]["detail"]
    assert code == 0


def test_what_only_a_gpu_has_is_not_run_on_a_cpu(gpu: ModuleType, tmp_path: Path) -> None:
    code, results = run(gpu, tmp_path, "--device", "cpu", "--only", *GPU_ONLY)
    assert code == 0
    assert {name: each["detail"] for name, each in results.items()} == GPU_ONLY
    assert {each["status"] for each in results.values()} == {"not run"}


def test_a_failure_is_shown_and_does_not_stop_the_others(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpu_check import Check

    def fails(device: torch.device) -> str:
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr(
        gpu, "CHECKS", [Check("bad", "It fails", fails), Check("good", "It does not", lambda device: "fine")]
    )
    code, results = run(gpu, tmp_path, "--device", "cpu")
    assert code == 1
    assert [each["status"] for each in results.values()] == ["FAILED", "ok"]
    assert results["bad"]["detail"] == "ValueError: first line"
    assert "second line" in results["bad"]["trace"]


def test_a_damaged_context_and_a_spent_time_are_named(gpu: ModuleType) -> None:
    from gpu_check import Check, run_checks

    def damages(device: torch.device) -> str:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    checks = [Check("bad", "", damages), Check("next", "", lambda device: "")]
    assert [each.detail for each in run_checks(checks, CPU, 60)][1] == (
        "the GPU's context is damaged since bad"
    )
    assert [each.detail for each in run_checks(checks[1:], CPU, -1)] == ["-1 seconds are over"]


def test_the_marked_tests_are_found(gpu: ModuleType) -> None:
    from gpu_training_checks import marked_files

    names = {path.name for path in marked_files(BENCHMARKS.parent / "tests")}
    assert {"test_select.py", "test_masks.py", "test_pruner_model.py"} <= names


@pytest.mark.slow
def test_nothing_but_the_recipe_needs_pydantic(tmp_path: Path) -> None:
    """On a machine without it, and without an installed gpmt, as one command from any folder."""
    (tmp_path / "pydantic.py").write_text("raise ImportError('not here')\n")
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--only"]
    done = subprocess.run(
        [*command, "clip", "digits", "digits-loop"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = {each["name"]: each for each in json.loads((tmp_path / "gpu.json").read_text())["checks"]}
    assert {name: each["status"] for name, each in results.items()} == {
        "clip": "ok",
        "digits": "not run",
        "digits-loop": "ok",
    }
    assert results["digits"]["detail"].startswith("pydantic, which checks recipes, is not installed")
