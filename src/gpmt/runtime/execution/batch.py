"""A batch with each thread on samples of its own: a thread runs the whole network, with its own activations.

Threads then neither wait for each other after every layer nor read activations from each other's caches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.execution.engine import Engine
from gpmt.runtime.execution.sample_loop import UPDATE_FIELDS, SampleLoopKernel
from gpmt.runtime.threads.locks import new_lock, refuse_reentry
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool


class BatchExecutor:
    """Runs batches of any size on engines for one sample.

    Args:
        engines: one for each thread, without steps on PyTorch; they share their weights.
        pool: the threads.
    """

    def __init__(self, engines: Sequence[Engine], pool: ThreadPool) -> None:
        self._engines = engines
        self._pool = pool
        self._counter = np.zeros(1, np.int64)
        self._updates = [
            np.zeros((engine.segment.address_count, UPDATE_FIELDS), np.int64) for engine in engines
        ]
        rows = [
            (engine.segment.table.address, len(engine.segment.table), int(updates.ctypes.data), len(updates))
            for engine, updates in zip(engines, self._updates, strict=True)
        ]
        self._rows = np.array(rows, np.int64)  # as in sample_loop.py
        counter, table = int(self._counter.ctypes.data), int(self._rows.ctypes.data)
        self._args = np.array([counter, 0, table, pool.run_alone_address], np.int64)
        kernel = SampleLoopKernel(len(engines))
        self._table = StepTable([(load(kernel), int(self._args.ctypes.data), kernel.items)])
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
            self._counter[0] = 0
            self._args[1] = samples
            self._pool.run(self._table)
        # An input that is returned as it is must not share memory with the output.
        with torch.no_grad():
            return [results[name] if name in results else inputs[name].clone() for name in outputs]
