"""Samples on several threads: each is taken once, with the step's arguments for it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from tests.runtime.codegen.counting import count_up

from gpmt.runtime.codegen.emitter import I64, Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel, load
from gpmt.runtime.execution.sample_loop import ENGINE_FIELDS, UPDATE_FIELDS, SampleLoopKernel
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool


@dataclass(frozen=True)
class CountKernel(FixedSizeKernel):
    """Adds one to the count at an index."""

    ARGS: ClassVar[tuple[str, ...]] = ("counts", "index")

    items: int = 1

    def emit(self):
        e = Emitter(4, self.ARGS)
        count_up(e, e.arg("index"))
        return e.text()


@dataclass(frozen=True)
class LogKernel(FixedSizeKernel):
    """Appends step, item and sample to a log whose first element counts the entries."""

    ARGS: ClassVar[tuple[str, ...]] = ("log", "step", "sample")

    items: int = 1

    def emit(self):
        e = Emitter(4, self.ARGS)
        count = e.load(e.arg("log"), I64, align=8)
        entry = e.add(e.arg("log"), e.mul(count, 24))
        for i, value in enumerate((e.arg("step"), e.item, e.arg("sample"))):
            e.store(value, entry, 8 + 8 * i, align=8)
        e.store(e.add(count, 1), e.arg("log"), align=8)
        return e.text()


def address(array):
    return int(array.ctypes.data)


class CountingEngine:
    """Two steps that count samples: one at every third element from 1, one at every element of other counts."""

    def __init__(self, wide, narrow, chunk, alone):
        self.args = [np.array([[address(counts), -1]] * chunk, np.int64) for counts in (wide, narrow)]
        self.table = StepTable([(load(CountKernel()), address(args), 1, 16) for args in self.args])
        indices = [address(args) + 8 for args in self.args]
        self.updates = np.array([[indices[0], 16, 1, 3], [indices[1], 16, 0, 1]], np.int64)
        self.row = self.table.address, alone, len(self.table), address(self.updates), len(self.updates)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("samples", [0, 1, 2, 500])
@pytest.mark.parametrize("chunk", [1, 4, 7])
@pytest.mark.parametrize("alone", [0, 1, 2])
def test_every_sample_is_taken_once(threads, samples, chunk, alone):
    wide, narrow = np.zeros(3 * samples + 3, np.int64), np.zeros(samples + 1, np.int64)
    engines = [CountingEngine(wide, narrow, chunk, alone) for _ in range(threads)]
    rows = np.array([engine.row for engine in engines], np.int64)
    assert rows.shape == (threads, ENGINE_FIELDS)
    assert engines[0].updates.shape[1] == UPDATE_FIELDS
    pool, counter = ThreadPool.shared(threads), np.zeros(1, np.int64)
    args = np.array([address(counter), samples, chunk, address(rows)], np.int64)
    kernel = SampleLoopKernel(threads)
    pool.run(StepTable([(load(kernel), address(args), kernel.items)]))
    expected = np.zeros_like(wide)
    expected[1 : 3 * samples : 3] = 1
    assert np.array_equal(wide, expected)
    assert np.array_equal(narrow, [1] * samples + [0])
    # Each engine looks once for a chunk that is not there.
    assert counter[0] == chunk * (-(-samples // chunk) + threads)


def test_the_order_of_steps_items_and_samples():
    """Steps 0 and 1 for one sample after the other; of the others, each item for all samples."""
    log = np.zeros(1 + 3 * 40, np.int64)
    args = [np.array([[address(log), step, -1] for _ in range(2)], np.int64) for step in range(4)]
    table = StepTable([(load(LogKernel()), address(own), 2, 24) for own in args])
    updates = np.array([[address(own) + 16, 24, 0, 1] for own in args], np.int64)
    rows = np.array([[table.address, 2, 4, address(updates), 4]], np.int64)
    counter = np.zeros(1, np.int64)
    loop = np.array([address(counter), 3, 2, address(rows)], np.int64)
    ThreadPool(1).run(StepTable([(load(SampleLoopKernel()), address(loop), 1)]))
    expected = []
    for chunk in ([0, 1], [2]):
        expected += [(step, item, sample) for sample in chunk for step in (0, 1) for item in (0, 1)]
        expected += [(step, item, sample) for step in (2, 3) for item in (0, 1) for sample in chunk]
    assert log[0] == len(expected)
    assert log[1 : 1 + 3 * len(expected)].reshape(-1, 3).tolist() == [list(entry) for entry in expected]


def test_the_code_is_the_same_for_any_number_of_threads():
    assert SampleLoopKernel(3).code == SampleLoopKernel(7).code
    assert load(SampleLoopKernel(3)) == load(SampleLoopKernel(7))
