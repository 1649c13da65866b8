"""The kernel that measures the processor: it computes what it says, in registers, and nothing is left out."""

import re

import numpy as np
import pytest

from gpmt.runtime.codegen import jit, processor
from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.execution.peak import PeakKernel, measure
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GPMT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_it_computes_all_rounds(lanes, fused):
    spec = PeakKernel(lanes, chains=3, items=2, rounds=5, fused=fused)
    output = np.zeros((4, lanes), np.float32)
    factors = np.array([0.5, 3.0], np.float32)
    args = np.array([output.ctypes.data, factors.ctypes.data], np.int64)
    ThreadPool(1).run(StepTable([(load(spec), int(args.ctypes.data), spec.items)]))
    x = 0.0
    for _ in range(5):
        x = x + 1.5 if fused else x * 0.5 + 3
    assert np.array_equal(output[:2], np.full((2, lanes), 3 * x, np.float32))
    assert not output[2:].any()
    assert spec.flops == 2 * lanes * 3 * 5 * 2


@pytest.mark.parametrize(
    ("kind", "chains", "word"), [("avx2", 12, "vfmadd"), ("avx512", 24, "vfmadd"), ("neon", 24, "fmla")]
)
def test_the_loop_is_multiply_adds_alone(kind, chains, word):
    host = processor.named(kind)
    text = jit.assembly(PeakKernel(host.lanes, chains).emit(), host)
    blocks = [block.splitlines() for block in re.split(r"\n\.L\w+:.*", text)]
    [loop] = [block for block in blocks if any(word in line for line in block)]
    last = next(i for i, line in enumerate(loop) if re.match(r"\s(j\w+|b\.\w+|cbn?z)\s", line))
    words = [line.split()[0] for line in loop[: last + 1] if line.startswith("\t")]
    assert sum(word in found for found in words) == chains
    assert len(words) <= chains + 3  # counting, comparing, jumping


def test_the_measure_is_one_of_a_processor():
    assert 1e8 < measure(ThreadPool(1), seconds=0.01) < 1e12
