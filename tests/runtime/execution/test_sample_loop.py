"""Samples on several threads: each is taken once, with the step's arguments for it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from tests.runtime.codegen.counting import count_up

from gpmt.runtime.codegen.emitter import Emitter
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


def address(array):
    return int(array.ctypes.data)


class CountingEngine:
    """Two steps that count samples: one at every third element from 1, one at every element of other counts."""

    def __init__(self, wide, narrow):
        self.args = [np.array([address(counts), -1], np.int64) for counts in (wide, narrow)]
        self.table = StepTable([(load(CountKernel()), address(args), 1) for args in self.args])
        indices = [address(args) + 8 for args in self.args]
        self.updates = np.array([[indices[0], 1, 3], [indices[1], 0, 1]], np.int64)
        self.row = self.table.address, len(self.table), address(self.updates), len(self.updates)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("samples", [0, 1, 2, 500])
def test_every_sample_is_taken_once(threads, samples):
    wide, narrow = np.zeros(3 * samples + 3, np.int64), np.zeros(samples + 1, np.int64)
    engines = [CountingEngine(wide, narrow) for _ in range(threads)]
    rows = np.array([engine.row for engine in engines], np.int64)
    assert rows.shape == (threads, ENGINE_FIELDS)
    assert engines[0].updates.shape[1] == UPDATE_FIELDS
    pool, counter = ThreadPool.shared(threads), np.zeros(1, np.int64)
    args = np.array([address(counter), samples, address(rows), pool.run_alone_address], np.int64)
    kernel = SampleLoopKernel(threads)
    pool.run(StepTable([(load(kernel), address(args), kernel.items)]))
    expected = np.zeros_like(wide)
    expected[1 : 3 * samples : 3] = 1
    assert np.array_equal(wide, expected)
    assert np.array_equal(narrow, [1] * samples + [0])
    # Each engine looks once for a sample that is not there.
    assert counter[0] == samples + threads


def test_the_code_is_the_same_for_any_number_of_threads():
    assert SampleLoopKernel(3).code == SampleLoopKernel(7).code
    assert load(SampleLoopKernel(3)) == load(SampleLoopKernel(7))
