"""The two ways to run a program: all threads on one sample after another, or each thread on samples of its own.

The first is for single samples, where nothing else keeps the threads busy; the second for batches. A program is
compiled for the way that the example's batch takes; the other is compiled when a call first needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gpmt.runtime.codegen import processor
from gpmt.runtime.execution.autotuning import Tuner
from gpmt.runtime.execution.batch import BatchExecutor
from gpmt.runtime.execution.engine import Engine
from gpmt.runtime.execution.weights import Weights
from gpmt.runtime.ir.batch import batch_of, rebatched
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.lowering.steps import Step, TorchStep
from gpmt.runtime.threads.arena import memory_errors_as_runtime_errors
from gpmt.runtime.threads.locks import new_lock
from gpmt.runtime.threads.thread_pool import ThreadPool


class Executors:
    """Compiles a graph in the ways that calls need.

    Args:
        graph: fused, for the example's batch.
        pool: the threads.
        tune: whether to measure kernels.

    Attributes:
        batch: samples in the example, where a program can take any number of them; None where it cannot.
    """

    def __init__(self, graph: Graph, pool: ThreadPool, *, tune: bool) -> None:
        self.pool = pool
        self.batch = batch_of(graph)
        self._graph = graph if self.batch is None else rebatched(graph, 1)
        self._tune = tune
        self._lock = new_lock()
        self._engine: Engine | None = None
        self._batch_executor: BatchExecutor | None = None
        self._is_native: bool | None = None
        self._compiled: list[Engine] = []

    def prepare(self, samples: int | None) -> None:
        """Compile what a call with this many samples needs.

        Raises:
            RuntimeProgramError: there is not enough memory.
        """
        if self._is_parallel(samples):
            self.batch_executor  # noqa: B018
        else:
            self.engine  # noqa: B018

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], samples: int) -> list[Tensor]:
        """Return the network's outputs.

        Args:
            inputs: by name, each with `samples` samples.
            outputs: names of values, as in the graph.
            samples: in every input.

        Raises:
            RuntimeProgramError: there is not enough memory, a step on PyTorch fails, or the same thread is in a run
                of this program already.
        """
        if self._is_parallel(samples):
            return self.batch_executor.run(inputs, outputs)
        if self.batch is None or samples == 1:
            return self.engine.run(inputs, outputs)
        parts = [
            self.engine.run({name: tensor[i : i + 1] for name, tensor in inputs.items()}, outputs)
            for i in range(samples)
        ]
        return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]

    @property
    def steps(self) -> list[Step]:
        """The steps for one sample, or for the whole batch where that is fixed."""
        return self._compiled[0].steps

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes of activations and of weights, in all that was compiled so far."""
        weights = {id(engine.weights): engine.weights.size for engine in self._compiled}
        return sum(engine.memory[0] for engine in self._compiled), sum(weights.values())

    @property
    def engine(self) -> Engine:
        """All threads on one sample; compiled by the first thread that asks."""
        if self._engine is None:
            with self._lock, memory_errors_as_runtime_errors():
                if self._engine is None:
                    lowered = lower(self._graph, processor.host(), self.pool.threads)
                    tuner = Tuner(self.pool, measure=self._tune)
                    choices = tuner.choose(lowered, self._graph.values)
                    engine = Engine(lowered, choices, self._graph.constants, self.pool)
                    self._compiled.append(engine)
                    self._engine = engine
        return self._engine

    @property
    def batch_executor(self) -> BatchExecutor:
        """Each thread on samples of its own; compiled by the first thread that asks."""
        if self._batch_executor is None:
            with self._lock, memory_errors_as_runtime_errors():
                if self._batch_executor is None:
                    lowered = lower(self._graph, processor.host(), 1)
                    tuner = Tuner(self.pool, measure=self._tune)
                    choices, schedule = tuner.choose_for_batches(lowered, self._graph.values)
                    single, weights = ThreadPool.shared(1), Weights(choices)
                    engines = [
                        Engine(lowered, choices, {}, single, weights, schedule=schedule)
                        for _ in range(self.pool.threads)
                    ]
                    executor = BatchExecutor(engines, self.pool)
                    self._compiled.extend(engines)
                    self._batch_executor = executor
        return self._batch_executor

    def _is_parallel(self, samples: int | None) -> bool:
        """Return whether each thread works on samples of its own: there are enough, and no step is on PyTorch."""
        if self.batch is None or samples is None or samples < max(2, self.pool.threads):
            return False
        if self._is_native is None:
            steps = lower(self._graph, processor.host(), 1).steps
            self._is_native = bool(steps) and not any(isinstance(step, TorchStep) for step in steps)
        return self._is_native
