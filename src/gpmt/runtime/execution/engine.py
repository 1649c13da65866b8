"""A lowered graph that is ready to run: memory for its values, tables of native steps, and PyTorch in between."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

from torch import Tensor

from gpmt.runtime.execution.linking import link
from gpmt.runtime.execution.memory_plan import ONE_SAMPLE, MemoryPlan, Schedule
from gpmt.runtime.execution.segments import Segment
from gpmt.runtime.execution.torch_steps import as_compiled, run_torch_step
from gpmt.runtime.execution.weights import Weights
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.lowering.steps import LoweredGraph, Step, TorchStep
from gpmt.runtime.threads.locks import new_lock, refuse_reentry
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool


class Engine:
    """Runs a network on tensors of fixed shapes.

    Args:
        lowered: the network.
        choices: the kernel of every native step, in their order.
        constants: tensors that do not depend on the inputs, by name.
        pool: the threads.
        weights: the constant arrays of the kernels; engines with the same choices can share them.
        schedule: the samples that are worked on together; `run` is for one.
        share_memory: whether buffers that are never in use together have the same memory.

    Attributes:
        kernels: of the native steps.
        works: what the cost model counts of each of these; None where there is only one kernel.
        planes: of the buffers, by name.
        buffers: the memory of these.

    Raises:
        RuntimeProgramError: there is not enough memory; or, from `run` and `profile`, the same thread is in a run of
            this engine already.
    """

    def __init__(
        self,
        lowered: LoweredGraph,
        choices: Sequence[Candidate],
        constants: Mapping[str, Tensor],
        pool: ThreadPool,
        weights: Weights | None = None,
        *,
        schedule: Schedule = ONE_SAMPLE,
        share_memory: bool = True,
    ) -> None:
        self.pool = pool
        self.weights = weights or Weights(choices)
        self.steps = lowered.steps
        self.kernels = [choice.spec for choice in choices]
        self.works = [choice.work for choice in choices]
        self.planes = lowered.planes
        self.tensor_shapes = lowered.tensor_shapes
        self._constants = dict(constants)
        self.schedule = schedule
        self.buffers = MemoryPlan(lowered, schedule, share=share_memory)
        self._parts = link(lowered, choices, self.weights, self.buffers, schedule.samples)
        self._last_uses = _last_uses(self._parts)
        self._origins = _origins(lowered.steps)
        self._lock = new_lock()

    @property
    def native(self) -> bool:
        """Whether no step is on PyTorch."""
        return not any(isinstance(step, TorchStep) for step in self.steps)

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes of activations and of weights."""
        return self.buffers.arena.size, self.weights.size

    @property
    def segment(self) -> Segment:
        """All steps of an engine without steps on PyTorch."""
        [part] = self._parts
        assert isinstance(part, Segment)
        return part

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return the network's outputs, in memory that nothing else uses.

        Args:
            inputs: by name, of the shapes and dtypes of the graph.
            outputs: names of values, as in the graph.
        """
        values = {**self._constants, **inputs}
        given = set(values)
        wanted = set(outputs)
        refuse_reentry(self._lock)
        with self._lock, as_compiled():
            for index, part in enumerate(self._parts):
                self._run_part(part, values)
                for name in self._last_uses.get(index, ()):
                    if name not in wanted:
                        values.pop(name, None)
            return [
                values[name].clone() if self._origins.get(name, name) in given else values[name]
                for name in outputs
            ]

    def profile(self, inputs: Mapping[str, Tensor], seconds: float = 0.01) -> list[float]:
        """Return the median seconds of every native step, each run again and again after a whole run.

        Args:
            inputs: as for `run`.
            seconds: how long to measure each step.
        """
        values = {**self._constants, **inputs}
        times = []
        refuse_reentry(self._lock)
        with self._lock, as_compiled():
            for part in self._parts:
                self._run_part(part, values)
                if isinstance(part, Segment):
                    times += [self._median_seconds(table, seconds) for table in part.single_step_tables()]
        return times

    def _run_part(self, part: Segment | TorchStep, values: dict[str, Tensor]) -> None:
        if isinstance(part, TorchStep):
            run_torch_step(part, values)
        else:
            part.bind(values, self.tensor_shapes)
            self.pool.run(part.table)

    def _median_seconds(self, table: StepTable, seconds: float) -> float:
        times = []
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            self.pool.run(table)
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def _origins(steps: Sequence[Step]) -> dict[str, str]:
    """Return, for values that may be views, the value whose memory they may share."""
    origins: dict[str, str] = {}
    for step in steps:
        if isinstance(step, TorchStep) and step.returns_view:
            source = step.inputs[0]
            origins[step.output_names[0]] = origins.get(source, source)
    return origins


def _last_uses(parts: Sequence[Segment | TorchStep]) -> dict[int, list[str]]:
    """Return, by the index of each part, the values that no later part reads."""
    last: dict[str, int] = {}
    for index, part in enumerate(parts):
        names = [*part.inputs, *part.output_names] if isinstance(part, TorchStep) else part.values
        last.update(dict.fromkeys(names, index))
    ends: dict[int, list[str]] = {}
    for name, index in last.items():
        ends.setdefault(index, []).append(name)
    return ends
