"""Runs that the machine cuts short, and runs of several processes: the last state holds, and --resume goes on."""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gpmt.errors import GpmtError
from gpmt.formats.checkpoint import load_checkpoint
from gpmt.training.recipes.files import load_recipe
from gpmt.training.run import phase
from gpmt.training.run.run import Stopped, run

SHORT = (
    "data.train_limit=320", "data.test_limit=101", "dense.epochs=1", "finetune.epochs=2", "dense.warmup_epochs=0"
)  # fmt: skip
GPMT = [sys.executable, "-m", "gpmt"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).state_dict


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_a_full_disk_leaves_the_last_state_whole_and_resuming_goes_on(tmp_path: Path):
    out, recipe = tmp_path / "run", load_recipe("digits", SHORT)
    run(recipe, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(recipe, out, max_epochs=1)
    before = (out / "state.pt").read_bytes()

    def small_files() -> None:  # the system's own limit: a write past it fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [*GPMT, "run", str(out / "recipe.yaml"), "--resume"]
    full = subprocess.run(
        command, preexec_fn=small_files, env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {out}/")
    assert "cannot be written: no space left in" in last
    assert (out / "state.pt").read_bytes() == before
    assert not list(out.glob(".gpmt-*"))
    run(recipe, out, resume=True)
    assert equal(weights(out / "model.pt"), weights(tmp_path / "whole/model.pt"))


def test_a_killed_reader_is_one_sentence_and_resuming_goes_on(
    image_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (image_tree / "test").rename(image_tree / "val")
    recipe = load_recipe(
        "digits",
        ["data.name=imagefolder", f"data.root={image_tree}", "data.size=16", "data.workers=1", "sparsity=0.5",
         "model=resnet20", "dense.epochs=1", "dense.warmup_epochs=0", "finetune.epochs=1", "dense.batch_size=4",
         "min_kept=1"],
    )  # fmt: skip
    real = phase.train_epoch

    def train_epoch(*args: Any, advance: Any, **settings: Any) -> Any:
        def killing(count: int, loss: torch.Tensor) -> None:
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()
            advance(count, loss)

        return real(*args, advance=killing, **settings)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(phase, "train_epoch", train_epoch)
        with pytest.raises(GpmtError, match=r"worker.*died.*lower data.workers"):
            run(recipe, out)
    assert torch.load(out / "state.pt", weights_only=True)["phase"] == "dense"
    assert run(recipe, out, resume=True)["verified"]


def together(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run gpmt as two processes on this machine."""
    command = ["torch.distributed.run", "--nproc_per_node=2", "--no-python", *GPMT, *arguments]
    return subprocess.run(
        [sys.executable, "-m", *command], env=ONE_THREAD, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_processes_stop_and_go_on_to_the_same_weights(tmp_path: Path, sharding: str):
    recipe = ("digits", *SHORT, "schedule=gradual", "interval=0.5", f"compute.sharding={sharding}")
    recipe += ("finetune.accumulate=2", "finetune.clip_norm=5")
    whole = together("run", *recipe, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    parts = tmp_path / "parts"
    assert together("run", *recipe, "--out", str(parts), "--max-epochs", "2").returncode != 0
    assert (parts / "state.pt").exists()
    again = together("run", *recipe, "--out", str(parts), "--resume", "--tensorboard")
    assert again.returncode == 0, again.stderr
    assert equal(weights(tmp_path / "whole/model.pt"), weights(parts / "model.pt"))
    metrics = json.loads((parts / "metrics.json").read_text())
    assert metrics["verified"]
    assert metrics["machine"]["processes"] == 2
    assert metrics["finetuned"]["images"] == 101
    scored = subprocess.run(
        [*GPMT, "eval", str(parts), "--json"], env=ONE_THREAD, capture_output=True, text=True, check=True
    )
    assert json.loads(scored.stdout)["top1"] == pytest.approx(metrics["finetuned"]["top1"])
