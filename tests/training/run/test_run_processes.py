"""Runs of two processes on this machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.training.run.runs import FEW_IMAGES, GPMT, ONE_THREAD, SHORT, same_weights


def together(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run gpmt as two processes on this machine."""
    command = ["torch.distributed.run", "--nproc_per_node=2", "--no-python", *GPMT, *arguments]
    return subprocess.run(
        [sys.executable, "-m", *command], env=ONE_THREAD, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_two_processes_share_a_run(tmp_path: Path):
    out = tmp_path / "run"
    result = together("run", "digits", *SHORT, "--out", str(out), "--json")
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout)  # one process reports
    assert metrics["machine"]["processes"] == 2
    assert metrics["verification"]["ok"]
    assert metrics["finetuned"]["images"] == 355
    assert metrics["finetuned"]["top1"] > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_processes_stop_and_go_on_to_the_same_weights(tmp_path: Path, sharding: str):
    recipe = ("digits", *SHORT, *FEW_IMAGES, "dense.epochs=1", "schedule=gradual", "interval=0.5")
    recipe += (f"compute.sharding={sharding}", "finetune.accumulate=2", "finetune.clip_norm=5")
    whole = together("run", *recipe, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    parts = tmp_path / "parts"
    assert together("run", *recipe, "--out", str(parts), "--max-epochs", "2").returncode != 0
    assert (parts / "state.pt").exists()
    again = together("run", *recipe, "--out", str(parts), "--resume", "--tensorboard")
    assert again.returncode == 0, again.stderr
    assert same_weights(tmp_path / "whole/model.pt", parts / "model.pt")
    metrics = json.loads((parts / "metrics.json").read_text())
    assert metrics["verified"]
    assert metrics["machine"]["processes"] == 2
    assert metrics["finetuned"]["images"] == 101
    scored = subprocess.run(
        [*GPMT, "eval", str(parts), "--json"], env=ONE_THREAD, capture_output=True, text=True, check=True
    )
    assert json.loads(scored.stdout)["top1"] == pytest.approx(metrics["finetuned"]["top1"])
