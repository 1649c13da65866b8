"""A folder is pruned in little memory: neither the weights nor their masks are in it together."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

LAYERS, SHARDS, SIZE = 24, 4, 4096
LIMIT = 1 << 30


def anonymous(pid: int) -> int:
    """Return the bytes of a process that are not pages of files."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(1024 * int(n) for n in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+)", status, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_a_folder_is_pruned_in_less_than_a_gibibyte(tmp_path: Path) -> None:
    """The folder has 1.6 GB of float32; copies of the weights would be seen."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "config.json").write_text('{"architectures": ["None"]}')
    generator, where = torch.Generator().manual_seed(0), {}
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        tensors = {
            f"layers.{layer}.weight": torch.randn(SIZE, SIZE, generator=generator)
            for layer in range(shard, LAYERS, SHARDS)
        }
        save_file(tensors, source / name)
        where |= dict.fromkeys(tensors, name)
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    command = [sys.executable, "-m", "gpmt", "prune", source, "-o", tmp_path / "out", "-s", "0.7", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.01)
        assert process.stdout is not None
        document = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert document["pruned"] == document["zeros"] == LAYERS * SIZE * SIZE * 7 // 10
    assert 100 << 20 < peak < LIMIT
