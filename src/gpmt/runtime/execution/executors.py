"""The two ways to run a program: all threads on one sample after the other, or each thread on samples of its own.

The first is for single samples, where nothing else keeps the threads busy; the second for batches. A program is
compiled for the way that the example's batch takes; the other is compiled when a call first needs it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpmt.runtime.codegen import processor
from gpmt.runtime.execution.autotuning import Tuner
from gpmt.runtime.execution.batch import BatchExecutor
from gpmt.runtime.execution.engine import Engine, Weights
from gpmt.runtime.ir.batch import batch_of, rebatched
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.lowering.steps import Lowered, Native, OnTorch, Step
from gpmt.runtime.threads.arena import enough
from gpmt.runtime.threads.locks import new_lock
from gpmt.runtime.threads.thread_pool import ThreadPool


class Executors:
    """Compiles a graph in the ways that calls need.

    Args:
        graph: fused, for the example's batch.
        team: the threads.
        tune: whether to measure kernels.

    Attributes:
        batch: samples in the example, where a program can take any number of them; None where it cannot.
        memory: bytes of activations and of weights.
    """

    def __init__(self, graph: Graph, team: ThreadPool, *, tune: bool) -> None:
        self.team = team
        self.batch = batch_of(graph)
        self._graph = graph if self.batch is None else rebatched(graph, 1)
        self._tune = tune
        self._lock = new_lock()
        self._engine: Engine | None = None
        self._replicas: BatchExecutor | None = None
        self._is_native: bool | None = None
        self._built: list[Engine] = []

    def prepare(self, samples: int | None) -> None:
        """Compile what a call with this many samples needs."""
        if self._apart(samples):
            self.replicas  # noqa: B018
        else:
            self.engine  # noqa: B018

    def run(self, values: dict[str, Tensor], outputs: Sequence[str], samples: int) -> list[Tensor]:
        """Return the network's outputs; arguments as for `Engine.run`, with `samples` in every input."""
        if self._apart(samples):
            return self.replicas.run(values, outputs)
        if self.batch is None or samples == 1:
            return self.engine.run(values, outputs)
        parts = [
            self.engine.run({name: tensor[i : i + 1] for name, tensor in values.items()}, outputs)
            for i in range(samples)
        ]
        return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]

    @property
    def steps(self) -> list[Step]:
        """The steps for one sample, or for the whole batch where that is fixed."""
        return self._built[0].steps

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes of activations and of weights, in all that was compiled so far."""
        shared = {id(engine.weights): engine.weights.size for engine in self._built}
        return sum(engine.memory[0] for engine in self._built), sum(shared.values())

    @property
    def engine(self) -> Engine:
        """All threads on one sample; compiled by the first thread that asks."""
        if self._engine is None:
            with self._lock, enough():
                if self._engine is None:
                    lowered, choices = self._choose(self.team)
                    engine = Engine(lowered, choices, self._graph.constants, self.team)
                    self._built.append(engine)
                    self._engine = engine
        return self._engine

    @property
    def replicas(self) -> BatchExecutor:
        """Each thread on a sample of its own; compiled by the first thread that asks."""
        if self._replicas is None:
            with self._lock, enough():
                if self._replicas is None:
                    alone = ThreadPool.shared(1)
                    lowered, choices = self._choose(alone)
                    weights = Weights(choices)
                    engines = [Engine(lowered, choices, {}, alone, weights) for _ in range(self.team.threads)]
                    replicas = BatchExecutor(engines, self.team)
                    self._built.extend(engines)
                    self._replicas = replicas
        return self._replicas

    def _apart(self, samples: int | None) -> bool:
        """Whether samples are enough for all threads, and nothing needs PyTorch."""
        if self.batch is None or samples is None or samples < max(2, self.team.threads):
            return False
        return self._native

    @property
    def _native(self) -> bool:
        if self._is_native is None:
            steps = lower(self._graph, processor.host(), 1).steps
            self._is_native = bool(steps) and not any(isinstance(step, OnTorch) for step in steps)
        return self._is_native

    def _choose(self, team: ThreadPool) -> tuple[Lowered, list[Candidate]]:
        tuner = Tuner(team, measure=self._tune)
        lowered = lower(self._graph, processor.host(), team.threads)
        choices = []
        for step in lowered.steps:
            if isinstance(step, Native):
                layouts = {role: lowered.layouts[buffer] for role, buffer in step.places.items()}
                choices.append(tuner.choose(step.candidates(lowered.layouts), layouts, step.kept_macs))
        tuner.save()
        return lowered, choices
