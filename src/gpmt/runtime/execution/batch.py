"""A batch with one thread for an image: every thread runs the whole network, with activations of its own.

Threads then neither wait for each other after every layer nor pull activations from each other's caches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.execution.engine import Engine
from gpmt.runtime.execution.sample_loop import PATCH, SampleLoopKernel
from gpmt.runtime.threads.locks import new_lock, refuse_reentry
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool


class BatchExecutor:
    """Runs batches of any size on engines for one image, which share their weights.

    Args:
        engines: one for each thread, without steps on PyTorch.
        team: the threads.
    """

    def __init__(self, engines: Sequence[Engine], team: ThreadPool) -> None:
        self._engines = engines
        self._team = team
        self._counter = np.zeros(1, np.int64)
        self._patches = [np.zeros((engine.pointers, PATCH), np.int64) for engine in engines]
        rows = [
            (engine.table.address, len(engine.table), int(patches.ctypes.data), len(patches))
            for engine, patches in zip(engines, self._patches, strict=True)
        ]
        self._rows = np.array(rows, np.int64)
        counter, replicas = int(self._counter.ctypes.data), int(self._rows.ctypes.data)
        self._args = np.array([counter, 0, replicas, team.alone_address], np.int64)
        kernel = SampleLoopKernel(len(engines))
        self._table = StepTable([(load(kernel), int(self._args.ctypes.data), kernel.items)])
        self._lock = new_lock()

    def run(self, values: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return the network's outputs for a batch, in memory that nothing else uses.

        Args:
            values: the inputs by name, [images, ...].
            outputs: names of values, as in the graph.
        """
        given = dict(values)
        images = len(next(iter(given.values())))
        refuse_reentry(self._lock)
        with self._lock:
            shapes = self._engines[0].outputs
            made = {
                name: torch.empty(images, *shape[1:], dtype=torch.float32, device="cpu")
                for name, shape in shapes.items()
            }
            for engine, patches in zip(self._engines, self._patches, strict=True):
                engine.aim(given, made, patches)
            self._counter[0] = 0
            self._args[1] = images
            self._team.run(self._table)
        # An input that is returned as it came must not share memory with the output.
        with torch.no_grad():
            return [made[name] if name in made else given[name].clone() for name in outputs]
