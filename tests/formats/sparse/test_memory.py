"""Writing and reading a sparse file take a fixed amount of memory beyond the network, whatever its size."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 64 << 20

SCRIPT = """
import ctypes, sys, threading, torch, gpmt

def anonymous():
    # Pages of the mapped file do not count: the system can take them back at any time.
    status = open("/proc/self/status").read()
    return int(status.split("RssAnon:")[1].split()[0]) << 10

def rise(task):
    # The kernel keeps no high-water mark of anonymous memory alone, so it is sampled.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = highest = anonymous()
    done = threading.Event()
    def watch():
        nonlocal highest
        while not done.wait(0.0005):
            highest = max(highest, anonymous())
    thread = threading.Thread(target=watch)
    thread.start()
    result = task()
    done.set()
    thread.join()
    return max(highest, anonymous()) - before, result

path, dtype, values = sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3]
gpmt.save_sparse({"w": torch.eye(600, dtype=dtype)}, path, values=values)  # compile
gpmt.load_sparse(path)
weights = {}
for i in range(8):
    weight = torch.randn(1024, 1024, 3, 3)
    weights[f"layer{i}.weight"] = weight.where(weight.abs() > 1.645, 0).to(dtype)  # 90 % zeros
written, size = rise(lambda: gpmt.save_sparse(weights, path, values=values))
assert size.bytes < 0.2 * size.dense_bytes
del weights, weight
read, weights = rise(lambda: gpmt.load_sparse(path))
print(written, read - sum(tensor.nbytes for tensor in weights.values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc"
)
@pytest.mark.parametrize(
    ("dtype", "values"), [("float32", "exact"), ("float32", "int8"), ("float64", "int8")]
)
def test_peak_memory_of_75_million_weights(tmp_path, dtype, values):
    command = [sys.executable, "-c", SCRIPT, tmp_path / "a.sparse.safetensors", dtype, values]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    written, read = map(int, result.stdout.split())
    assert written < LIMIT
    assert -LIMIT / 8 < read < LIMIT
