"""Stamps: every step's cycles, and the steps themselves as they are without stamps."""

import ctypes
import time

import numpy as np
import pytest
from tests.runtime.codegen.counting import count_up

from gpmt.runtime.codegen import jit, processor
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.execution.stamps import StampedTable, StampKernel
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool


def slow_kernel(rounds):
    """Return the address of a kernel that adds 1 to the item's count, again and again."""
    e = Emitter(4, ["counts"])
    with e.loop(0, rounds):
        count_up(e, e.item)
        e.builder.fence("seq_cst")  # so that LLVM keeps the loop
    return jit.load(e.text())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_longer_step_takes_more_cycles(threads):
    counts = np.zeros((3, 2), np.int64)
    args = [np.array([own.ctypes.data], np.int64) for own in counts]
    functions = [slow_kernel(rounds) for rounds in (1, 20_000, 1)]
    rows = [(f, a.ctypes.data, 2, 0) for f, a in zip(functions, args, strict=True)]
    stamped, pool = StampedTable(rows), ThreadPool.shared(threads)
    pool.run(stamped.table)
    stamped.take()
    times = []
    for _ in range(3):
        pool.run(stamped.table)
        times.append(stamped.take())
    first, second, third = np.median(times, 0)
    assert 0 < first < second > third > 0
    assert counts.tolist() == [[4, 4], [80_000, 80_000], [4, 4]]
    assert not stamped.take().any()


def test_rows_of_the_first_steps():
    assert [StampedTable.place(steps) for steps in range(4)] == [0, 3, 5, 7]


def test_the_counter_of_the_processor():
    assert "rdtsc" in jit.assembly(StampKernel(x86=True).emit(), processor.named("avx2"))


def test_the_clock_of_the_system():
    """Where the processor's counter cannot be read, the C library's clock is: in nanoseconds."""
    read = ctypes.cast(ctypes.CDLL(None)["clock_gettime"], ctypes.c_void_p).value
    cells = np.zeros(2, np.int64)
    args = np.array([cells.ctypes.data, cells.ctypes.data + 8, read, time.CLOCK_MONOTONIC], np.int64)
    table, pool = StepTable([(load(StampKernel(x86=False)), args.ctypes.data, 1)]), ThreadPool.shared(1)
    before = time.monotonic_ns()
    pool.run(table)
    assert before <= cells[0] <= time.monotonic_ns()
    cells[1] = 0
    pool.run(table)
    assert 0 < cells[1] < 1e9
