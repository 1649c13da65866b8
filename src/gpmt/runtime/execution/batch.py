"""A batch with each thread on samples of its own: a thread runs the whole network, with its own activations.

Threads then neither wait for each other after every layer nor read activations from each other's caches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.execution.engine import Engine
from gpmt.runtime.execution.sample_loop import UPDATE_FIELDS, SampleLoopKernel
from gpmt.runtime.threads.locks import new_lock, refuse_reentry
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool


class SampleLoop:
    """The native loop in which each thread takes chunks of samples through tables of steps.

    Args:
        tables: one for each thread.
        alone: steps from the first one on that are done sample by sample.
        most: samples of a chunk at most.
        updates: int64 [n, 4] for each thread, as in sample_loop.py.
        pool: the threads.
    """

    def __init__(
        self, tables: Sequence[StepTable], alone: int, most: int, updates: Sequence[NDArray[np.int64]],
        pool: ThreadPool,
    ) -> None:  # fmt: skip
        self._pool, self._most, self._kept = pool, most, (tables, updates)
        self._counter = np.zeros(1, np.int64)
        rows = [
            (table.address, alone, len(table), int(own.ctypes.data), len(own))
            for table, own in zip(tables, updates, strict=True)
        ]
        self._rows = np.array(rows, np.int64)
        self._args = np.array([self._counter.ctypes.data, 0, 1, self._rows.ctypes.data], np.int64)
        kernel = SampleLoopKernel(len(tables))
        self._table = StepTable([(load(kernel), int(self._args.ctypes.data), kernel.items)])

    def run(self, samples: int) -> None:
        """Take samples through the network."""
        self._counter[0] = 0
        self._args[1:3] = samples, chunk_size(samples, self._pool.threads, self._most)
        self._pool.run(self._table)


def chunk_size(samples: int, threads: int, most: int) -> int:
    """Return the samples of a chunk: as equal for all threads as they can be, and at most `most`.

    >>> [chunk_size(samples, 2, 4) for samples in (2, 6, 8, 10, 16)]
    [1, 3, 4, 3, 4]
    """
    rounds = ceil_div(samples, threads * most)
    return max(1, ceil_div(samples, threads * rounds)) if rounds else 1


class BatchExecutor:
    """Runs batches of any size on engines for one sample, or for the samples of a chunk.

    Args:
        engines: one for each thread, without steps on PyTorch; they share their weights, and have one schedule.
        pool: the threads.
    """

    def __init__(self, engines: Sequence[Engine], pool: ThreadPool) -> None:
        self._engines = engines
        self._updates = [
            np.zeros((engine.segment.address_count, UPDATE_FIELDS), np.int64) for engine in engines
        ]
        schedule = engines[0].schedule
        tables = [engine.segment.table for engine in engines]
        self._loop = SampleLoop(tables, schedule.alone, schedule.samples, self._updates, pool)
        self._lock = new_lock()

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return the network's outputs for a batch, in memory that nothing else uses.

        Args:
            inputs: [samples, ...] by name.
            outputs: names of values, as in the graph.

        Raises:
            RuntimeProgramError: the same thread is in a run already.
        """
        inputs = dict(inputs)
        samples = len(next(iter(inputs.values())))
        refuse_reentry(self._lock)
        with self._lock:
            results = {
                name: torch.empty(samples, *shape[1:], dtype=torch.float32, device="cpu")
                for name, shape in self._engines[0].tensor_shapes.items()
            }
            for engine, updates in zip(self._engines, self._updates, strict=True):
                engine.segment.bind_batch(inputs, results, updates)
            self._loop.run(samples)
        # An input that is returned as it is must not share memory with the output.
        with torch.no_grad():
            return [results[name] if name in results else inputs[name].clone() for name in outputs]
