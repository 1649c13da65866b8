"""From kernels and memory to tables of steps: the arguments of all kernels that are known before a call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpmt.runtime.codegen import processor
from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.execution.memory_plan import MemoryPlan
from gpmt.runtime.execution.segments import Segment
from gpmt.runtime.execution.weights import Weights
from gpmt.runtime.kernels.clear_gaps import ClearGapsKernel
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.lowering.steps import (
    BufferAddress,
    InputStride,
    InputTensor,
    LoweredGraph,
    NativeStep,
    Number,
    OutputTensor,
    TorchStep,
)
from gpmt.runtime.threads.thread_pool import Row, StepTable


def link(
    lowered: LoweredGraph,
    choices: Sequence[Candidate],
    weights: Weights,
    memory: MemoryPlan,
    samples: int = 1,
) -> list[Segment | TorchStep]:
    """Return what a run does: native steps that follow one another as one segment, and PyTorch in between.

    Args:
        lowered: the network.
        choices: the kernel of every native step, in their order.
        weights: the kernels' constant arrays.
        memory: the buffers.
        samples: that are worked on together; each has arguments of its own.
    """
    linker = _Linker(lowered, choices, weights, memory, samples)
    parts: list[Segment | TorchStep] = []
    for number, step in enumerate(lowered.steps):
        if isinstance(step, TorchStep):
            parts.append(step)
            continue
        if not parts or isinstance(parts[-1], TorchStep):
            parts.append(Segment(linker.arguments))
        segment = parts[-1]
        assert isinstance(segment, Segment)
        segment.rows.append(linker.row(number, step, segment))
    for part in parts:
        if isinstance(part, Segment):
            part.table = StepTable(part.rows)
    return parts


class _Linker:
    """Fills the arguments [samples, arguments of all steps], step by step."""

    def __init__(
        self, lowered: LoweredGraph, choices: Sequence[Candidate], weights: Weights, memory: MemoryPlan, samples: int
    ) -> None:  # fmt: skip
        self._lowered, self._memory = lowered, memory
        self._kernels = iter(zip(choices, weights.addresses, strict=True))
        cleared = sum(map(len, memory.cleared.values()))
        count = sum(len(choice.spec.ARGS) for choice in choices) + cleared * len(ClearGapsKernel.ARGS)
        self.arguments = np.zeros((samples, count), np.int64)
        self._next = 0

    def row(self, number: int, step: NativeStep, segment: Segment) -> Row:
        """Write the arguments of a step, and return its row in the table; note what each call must write."""
        choice, constants = next(self._kernels)
        row = load(choice.spec), self._place, choice.spec.items, self.arguments.strides[0]
        for argument in choice.spec.in_order({**constants, **step.arguments}):
            match argument:
                case BufferAddress(buffer, channel):
                    self._write(self._pixel(buffer) + channel * self._lowered.planes[buffer].plane_bytes)
                case OutputTensor() as output:
                    segment.outputs.append((self._next, output))
                    self._write(0)
                case (InputTensor() | InputStride()) as entry:
                    segment.inputs.append((self._next, entry))
                    self._write(0)
                case Number(number_):
                    self._write(number_)
                case int(address):
                    self._write(address)
                case None:
                    self._write(0)
        for buffer in self._memory.cleared.get(number, ()):
            row = self._clearing(row, buffer, segment)
        return row

    def _clearing(self, row: Row, buffer: str, segment: Segment) -> Row:
        """Return a step that also clears the gaps of a buffer."""
        function, arguments, items, stride = row
        spec = ClearGapsKernel(processor.host().lanes, self._lowered.planes[buffer], items)
        sizes = spec.sizes()
        segment.kept.append(sizes)
        own = load(spec), self._place, items, stride
        self._write(function)
        self._write(arguments + stride * np.arange(len(self.arguments)))
        self._write(self._pixel(buffer))
        self._write(int(sizes.ctypes.data))
        return own

    def _pixel(self, buffer: str) -> NDArray[np.int64]:
        """Return the addresses of the first pixel in a buffer's copies."""
        return np.array(self._memory.addresses[buffer]) + self._lowered.planes[buffer].origin_bytes

    @property
    def _place(self) -> int:
        """The address of the next argument of the first sample."""
        return int(self.arguments.ctypes.data) + 8 * self._next

    def _write(self, values: NDArray[np.int64] | int) -> None:
        self.arguments[:, self._next] = values
        self._next += 1
