"""A network with some choice of kernels, run for the times of its steps: in sequence, as a program runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.runtime.execution.batch import SampleLoop
from gpmt.runtime.execution.linking import link
from gpmt.runtime.execution.memory_plan import ONE_SAMPLE, MemoryPlan, Schedule
from gpmt.runtime.execution.sample_loop import UPDATE_FIELDS
from gpmt.runtime.execution.segments import Segment
from gpmt.runtime.execution.stamps import StampedTable
from gpmt.runtime.execution.weights import Weights
from gpmt.runtime.ir.values import Value
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.lowering.steps import LoweredGraph, TorchStep
from gpmt.runtime.threads.thread_pool import ThreadPool


class TrialNetwork:
    """The native steps of a network on made-up inputs.

    Steps on PyTorch are left out: what they would make is made up too.

    Args:
        lowered: the network.
        choices: the kernel of every native step.
        values: the graph's values by name.
        pool: the threads.
        schedule: None for all threads on one sample; else each thread takes chunks of samples through the network.

    Raises:
        RuntimeProgramError: there is not enough memory.
    """

    def __init__(
        self, lowered: LoweredGraph, choices: Sequence[Candidate], values: Mapping[str, Value], pool: ThreadPool,
        schedule: Schedule | None = None,
    ) -> None:  # fmt: skip
        self._pool, self._weights = pool, Weights(choices)
        self._samples = pool.threads * schedule.samples if schedule else 1
        made_up = {
            **values,
            **{name: Value(name, shape) for name, shape in lowered.tensor_shapes.items()},
            **{v.name: v for s in lowered.steps if isinstance(s, TorchStep) for v in s.outputs},
        }
        self._tables: list[StampedTable] = []
        self._loop: SampleLoop | None = None
        self._memory: list[MemoryPlan] = []
        self._kept: list[tuple[Segment, dict[str, Tensor]]] = []  # what tables point to
        updates = []
        for _ in range(pool.threads if schedule else 1):
            plan = schedule or ONE_SAMPLE
            memory = MemoryPlan(lowered, plan)
            self._memory.append(memory)
            for part in link(lowered, choices, self._weights, memory, plan.samples):
                if not isinstance(part, Segment):
                    continue
                written = {entry.value for _, entry in part.outputs}
                tensors = {
                    name: _made_up(made_up[name], self._samples if schedule else None)
                    for name in {entry.value for _, entry in part.inputs} - written
                }
                if schedule:
                    results = {
                        name: torch.empty(self._samples, *shape[1:], device="cpu")
                        for name, shape in lowered.tensor_shapes.items()
                    }
                    updates.append(np.zeros((part.address_count, UPDATE_FIELDS), np.int64))
                    part.bind_batch(tensors, results, updates[-1])
                    tensors |= results
                else:
                    part.bind(tensors, lowered.tensor_shapes)
                self._kept.append((part, tensors))
                self._tables.append(StampedTable(part.rows))
        if schedule:
            tables = [stamped.table for stamped in self._tables]
            alone = StampedTable.place(schedule.alone)
            self._loop = SampleLoop(tables, alone, schedule.samples, updates, pool)

    def run(self) -> NDArray[np.float64]:
        """Run all native steps once, and return the cycles of each, of one thread for one sample."""
        if self._loop is None:
            for stamped in self._tables:
                self._pool.run(stamped.table)
            return np.concatenate([stamped.take() for stamped in self._tables]).astype(np.float64)
        self._loop.run(self._samples)
        total: NDArray[np.float64] = np.sum([stamped.take() for stamped in self._tables], 0, np.float64)
        return total / self._samples


def _made_up(value: Value, samples: int | None) -> Tensor:
    """Return a tensor for a value, with a number of samples in place of its own where one is given."""
    shape = value.shape if samples is None else (samples, *value.shape[1:])
    if value.dtype != torch.float32:
        return torch.zeros(shape, dtype=value.dtype, device="cpu")
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), device="cpu")
