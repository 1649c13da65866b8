"""Deciding takes a fixed amount of memory beyond the packed masks, whatever the size of the network."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 64 << 20

SCRIPT = """
import sys, torch, gpmt

def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) << 10

dtype, layout = getattr(torch, sys.argv[1]), sys.argv[2]
gpmt.plan({"w.weight": torch.randn(600, 600, dtype=dtype)}, sparsity=0.5, min_kept=1).masks()  # compile
weights = {
    f"layer{i}.weight": torch.randn(1024, 1024, 3, 3, dtype=dtype).to(memory_format=getattr(torch, layout))
    for i in range(8)
}
open("/proc/self/clear_refs", "w").write("5")  # start the peak anew
before = peak()
plans = gpmt.plan(weights, sparsity=[0.5, 0.6, 0.7, 0.8, 0.9, 0.95], min_kept="0.05%")
masks = plans[4].masks()
packed = sum(len(masks.packed(name)) for name in masks)
print(peak() - before - packed)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from Linux's /proc"
)
@pytest.mark.parametrize(
    ("dtype", "layout"),
    [("float32", "contiguous_format"), ("float64", "contiguous_format"), ("bfloat16", "channels_last")],
)
def test_peak_memory_of_deciding_75_million_weights(dtype, layout):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, dtype, layout], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(result.stdout) < LIMIT
