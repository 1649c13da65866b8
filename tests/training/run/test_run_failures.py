"""Runs that the machine cuts short: the last state stays whole, and --resume goes on."""

import multiprocessing
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.run.runs import (
    GPMT,
    ONE_THREAD,
    SHORT,
    comparable,
    digits_recipe,
    same_weights,
    short_recipe,
)
from tests.waiting import wait_until

from gpmt.errors import GpmtError
from gpmt.runs.run_summary import read_run
from gpmt.training.recipes.files import load_recipe
from gpmt.training.run import phase
from gpmt.training.run.run import Stopped, run


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_state_whole_and_resuming_goes_on(tmp_path: Path):
    out, recipe = tmp_path / "run", short_recipe("dense.epochs=1")
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
    assert same_weights(out / "model.pt", tmp_path / "whole/model.pt")


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
    listed = read_run(out)
    assert (listed.state, listed.note[:25]) == ("failed", "in epoch 1 of 1 of dense:")
    assert run(recipe, out, resume=True)["verified"]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(digits, tmp_path: Path):
    out = tmp_path / "run"
    # One thread, as this process uses: the number of threads changes the last bits of sums.
    command = [*GPMT, "run", "digits", *SHORT, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ONE_THREAD)
    wait_until((out / "dense.pt").exists)
    assert read_run(out).state == "running"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (read_run(out).state, read_run(out).note) == ("interrupted", "it ended without a word")
    assert comparable(run(digits_recipe(), out, resume=True)) == comparable(digits[1])
    assert same_weights(out / "model.pt", digits[0] / "model.pt")
