import os
import signal
from pathlib import Path

import pytest

from gpmt.training.sweep import run_process
from gpmt.training.sweep.run_process import RunProcess, process_environment


def test_jobs_share_cores_and_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(run_process, "core_count", lambda: 8)
    alone = process_environment(0, 1)
    assert "OMP_NUM_THREADS" not in alone
    assert alone["CUDA_VISIBLE_DEVICES"] == "4,6"
    shared = [process_environment(slot, 3) for slot in range(3)]
    assert [variables["OMP_NUM_THREADS"] for variables in shared] == ["2", "2", "2"]
    assert [variables["CUDA_VISIBLE_DEVICES"] for variables in shared] == ["4", "6", "4"]
    assert process_environment(0, 100)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert process_environment(0, 2)["OMP_NUM_THREADS"] == "5"


def test_a_killed_process_is_named_with_its_signal(tmp_path: Path):
    started = RunProcess(["--help"], log=tmp_path / "log", slot=0, jobs=1)
    os.kill(started._process.pid, signal.SIGKILL)
    assert started.failure() == f"killed by SIGKILL, often because memory ran out; see {tmp_path / 'log'}"
    assert not started.running
