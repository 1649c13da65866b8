"""Two processes that train one network through a framework prune it alike, and exactly."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"


def launch(script, folder):
    """Run a script in two processes on the CPU and return what they print."""
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "zeros"), [("with_accelerate", "8,524 of 9,472"), ("hf_trainer", "16,038 of 20,048")]
)
def test_example(example, zeros, tmp_path):
    assert f"ok: {zeros} weights are zero" in launch(EXAMPLES / f"{example}.py", tmp_path)


@pytest.mark.slow
def test_lightning(tmp_path):
    printed = launch(HERE / "lightning_rank.py", tmp_path)
    assert printed.count("ok: 288 of 320 weights are zero") == 2
    first, second = re.findall(r"(\d+ steps, masks \w+)", printed)
    assert first == second
    assert first.startswith("32 steps")
