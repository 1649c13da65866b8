"""A lowered network that is ready to run: memory for everything, tables of native steps, and PyTorch in between."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.errors import RuntimeProgramError, reason
from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.lowering.steps import Lowered, Native, OnTorch, Step
from gpmt.runtime.threads.arena import Arena, total
from gpmt.runtime.threads.locks import new_lock, refuse_reentry
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool

_STRIDES = {"stride_n": 0, "stride_c": 1, "stride_h": 2, "stride_w": 3}
_CONTIGUOUS = -1
_SMALL = 1 << 16  # bytes


@dataclass
class _Segment:
    """Native steps in a row: one call of the team.

    Attributes:
        reads: (cell of the arguments, value, axis) of the tensors that the steps take: their strides along an axis in
            bytes; without an axis their addresses, after they have been made contiguous if the axis is -1.
        writes: (cell, value) of those that they make.
    """

    first: int
    rows: list[tuple[int, int, int]] = field(default_factory=list)
    reads: list[tuple[int, str, int | None]] = field(default_factory=list)
    writes: list[tuple[int, str]] = field(default_factory=list)
    table: StepTable | None = None


class Weights:
    """The constant arguments of kernels in one stretch of memory; small ones that are equal are there once.

    Attributes:
        addresses: of every kernel's arguments by name.
        size: bytes.
    """

    def __init__(self, choices: Sequence[Candidate]) -> None:
        groups = [choice.arrays() for choice in choices]
        self._arena = Arena(total(array.nbytes for group in groups for array in group.values()))
        self.size = self._arena.size
        self.addresses: list[dict[str, int]] = []
        shared: dict[bytes, int] = {}
        for group in groups:
            places = {}
            for role, array in group.items():
                content = array.tobytes() if array.nbytes < _SMALL else b""
                places[role] = shared[content] if content in shared else self._arena.put(array)
                if content:
                    shared[content] = places[role]
            self.addresses.append(places)


class Engine:
    """Runs a network on tensors of fixed shapes.

    Args:
        lowered: its steps.
        choices: the kernel of every native step, in order.
        constants: tensors that are there from the start.
        team: the threads.
        weights: the constant arguments of the kernels; engines with the same choices can share them.

    Raises:
        RuntimeProgramError: there is not enough memory; or, from a run, it was begun in the middle of another one
            by the same thread.
    """

    def __init__(
        self,
        lowered: Lowered,
        choices: Sequence[Candidate],
        constants: Mapping[str, Tensor],
        team: ThreadPool,
        weights: Weights | None = None,
    ) -> None:
        self._team = team
        self.weights = weights or Weights(choices)
        self._shapes = lowered.tensors
        self._constants = dict(constants)
        self.steps = lowered.steps
        self.choices = list(choices)
        self._buffers = _share(lowered.steps, lowered.layouts)
        self._activations = Arena(total(planes.buffer_bytes for planes in self._buffers.planes))
        places = [self._activations.take(planes.buffer_bytes) for planes in self._buffers.planes]
        self._cells = np.zeros(sum(len(choice.spec.ARGS) for choice in choices), np.int64)
        self._parts: list[_Segment | OnTorch] = []
        self._fill(lowered, places)
        self._last = _last_reads(self._parts)
        self._origin = _origins(lowered.steps)
        self.lock = new_lock()

    @property
    def native(self) -> bool:
        """Whether nothing is left to PyTorch."""
        return not any(isinstance(step, OnTorch) for step in self.steps)

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes of activations and of weights."""
        return self._activations.size, self.weights.size

    def run(self, values: dict[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return the network's outputs, in memory that nothing else uses.

        Args:
            values: the inputs by name; of the right shapes and types.
            outputs: names of values, as in the graph.
        """
        values = {**self._constants, **values}
        given = set(values)
        wanted = set(outputs)
        refuse_reentry(self.lock)
        with self.lock, _as_compiled():
            for index, part in enumerate(self._parts):
                if isinstance(part, OnTorch):
                    _run_on_torch(part, values)
                else:
                    self._run(part, values)
                for name in self._last.get(index, ()):
                    if name not in wanted:
                        values.pop(name, None)
            return [
                values[name].clone() if self._origin.get(name, name) in given else values[name]
                for name in outputs
            ]

    def _run(self, segment: _Segment, values: dict[str, Tensor]) -> None:
        # First, since later steps of the segment may read them.
        for cell, name in segment.writes:
            values[name] = torch.empty(self._shapes[name], dtype=torch.float32, device="cpu")
            self._cells[cell] = values[name].data_ptr()
        # Before any address is taken: a tensor that is replaced may be freed.
        for _, name, axis in segment.reads:
            if axis == _CONTIGUOUS:
                values[name] = values[name].contiguous()
        for cell, name, axis in segment.reads:
            tensor = values[name]
            self._cells[cell] = (
                4 * tensor.stride(axis) if axis is not None and axis >= 0 else tensor.data_ptr()
            )
        assert segment.table is not None
        self._team.run(segment.table)

    # For `BatchExecutor`, of an engine without steps on PyTorch

    @property
    def table(self) -> StepTable:
        """All steps."""
        assert self._only.table is not None
        return self._only.table

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors that native steps write, by value."""
        return self._shapes

    @property
    def pointers(self) -> int:
        """How many arguments of the steps are addresses in tensors."""
        reads = [entry for entry in self._only.reads if entry[2] is None or entry[2] == _CONTIGUOUS]
        return len(reads) + len(self._only.writes)

    def aim(self, given: dict[str, Tensor], made: Mapping[str, Tensor], patches: NDArray[np.int64]) -> None:
        """Write the steps' arguments for the tensors of a whole batch.

        Args:
            given: the inputs; made contiguous where the steps want it.
            made: what the steps write.
            patches: [pointers, 3], is filled with a cell's address, the tensor's address and the bytes of a sample.
        """
        base, rows = int(self._cells.ctypes.data), []
        for cell, name, axis in self._only.reads:
            if axis == _CONTIGUOUS and name in given:
                given[name] = given[name].contiguous()
            tensor = made[name] if name in made else given[name]
            if axis is None or axis == _CONTIGUOUS:
                rows.append((base + 8 * cell, tensor.data_ptr(), 4 * tensor.stride(0)))
            else:
                self._cells[cell] = 4 * tensor.stride(axis)
        for cell, name in self._only.writes:
            rows.append((base + 8 * cell, made[name].data_ptr(), 4 * made[name].stride(0)))
        patches[:] = rows

    @property
    def _only(self) -> _Segment:
        [part] = self._parts
        assert isinstance(part, _Segment)
        return part

    @property
    def threads(self) -> int:
        """Threads that a run uses."""
        return self._team.threads

    def profile(self, values: dict[str, Tensor], seconds: float = 0.01) -> list[float]:
        """Return the median seconds of every native step, each run again and again after a whole run."""
        values = {**self._constants, **values}
        times = []
        refuse_reentry(self.lock)
        with self.lock, _as_compiled():
            for part in self._parts:
                if isinstance(part, OnTorch):
                    _run_on_torch(part, values)
                    continue
                self._run(part, values)
                for row in part.rows:
                    table, found = StepTable([row]), []
                    end = time.perf_counter() + seconds
                    while (start := time.perf_counter()) < end:
                        self._team.run(table)
                        found.append(time.perf_counter() - start)
                    times.append(statistics.median(found))
        return times

    def _fill(self, lowered: Lowered, places: list[int]) -> None:
        cell, native = 0, 0
        base = int(self._cells.ctypes.data)
        for step in lowered.steps:
            if isinstance(step, OnTorch):
                self._parts.append(step)
                continue
            choice, constant = self.choices[native], self.weights.addresses[native]
            if not self._parts or isinstance(self._parts[-1], OnTorch):
                self._parts.append(_Segment(cell))
            segment = self._parts[-1]
            assert isinstance(segment, _Segment)
            segment.rows.append((load(choice.spec), base + 8 * cell, choice.spec.items))
            for role in choice.spec.ARGS:
                if role in step.places:
                    name = step.places[role]
                    planes = lowered.layouts[name]
                    skipped = step.first_channel if role == "output" else step.from_channel
                    start = planes.origin + skipped * planes.plane_stride
                    self._cells[cell] = places[self._buffers.number[name]] + 4 * start
                elif role == "output":
                    segment.writes.append((cell, step.tensors[role]))
                elif role == "row":
                    self._cells[cell] = 4 * lowered.layouts[step.places["output"]].channels
                elif role in step.tensors or role in _STRIDES:
                    plain = _CONTIGUOUS if "row" in choice.spec.ARGS else None
                    segment.reads.append((cell, step.tensors["input"], _STRIDES.get(role, plain)))
                elif role in constant:
                    self._cells[cell] = constant[role]
                cell += 1
            native += 1
        for part in self._parts:
            if isinstance(part, _Segment):
                part.table = StepTable(part.rows)


@contextmanager
def _as_compiled() -> Iterator[None]:
    """Keep what the caller has switched on away from the steps on PyTorch: gradients, and types of autocast."""
    mixed = torch.is_autocast_enabled("cpu")
    with torch.no_grad(), torch.autocast("cpu", enabled=False) if mixed else nullcontext():
        yield


def _run_on_torch(step: OnTorch, values: dict[str, Tensor]) -> None:
    try:
        made = step.run(*(values[name] for name in step.reads))
    except Exception as error:  # PyTorch raises what it likes
        raise RuntimeProgramError(
            f"the program's step {step.label} on PyTorch {torch.__version__} fails: {reason(error)}; check the "
            "inputs, or compile the network again"
        ) from error
    for value, tensor in zip(step.makes, made, strict=True):
        # Kernels read memory: what lies there must be what they were made for.
        plain = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.shape != value.shape or tensor.dtype != value.dtype:
            raise RuntimeProgramError(
                f"the program's step {step.label} on PyTorch {torch.__version__} does not make {value.name} as "
                f"{value.dtype} {list(value.shape)}; compile the network again"
            )
        # Numbers that PyTorch negates on the way still have their old signs in memory.
        values[value.name] = tensor.resolve_neg()


@dataclass
class _Buffers:
    planes: list[Planes]
    number: dict[str, int]


def _share(steps: Sequence[Step], layouts: Mapping[str, Planes]) -> _Buffers:
    """Give buffers that are never alive together, and have one layout, the same memory.

    Only of one layout: their pads, which must stay zero, are then in the same places.
    """
    last = {
        name: i for i, step in enumerate(steps) if isinstance(step, Native) for name in step.places.values()
    }
    buffers = _Buffers([], {})
    free: dict[Planes, list[int]] = {}
    for index, step in enumerate(steps):
        if not isinstance(step, Native):
            continue
        names = set(step.places.values())
        for name in sorted(names):
            if name not in buffers.number:
                spare = free.get(layouts[name])
                if spare:
                    buffers.number[name] = spare.pop()
                else:
                    buffers.number[name] = len(buffers.planes)
                    buffers.planes.append(layouts[name])
        for name in sorted(names):
            if last[name] == index:
                free.setdefault(layouts[name], []).append(buffers.number[name])
    return buffers


def _origins(steps: Sequence[Step]) -> dict[str, str]:
    """Return whose memory the tensors have that are another tensor in a new shape."""
    origins: dict[str, str] = {}
    for step in steps:
        if isinstance(step, OnTorch) and step.label == "reshape":
            origins[step.writes[0]] = origins.get(step.reads[0], step.reads[0])
    return origins


def _last_reads(parts: Sequence[_Segment | OnTorch]) -> dict[int, list[str]]:
    """Return, for each part, the tensors that no later one reads."""
    last: dict[str, int] = {}
    for index, part in enumerate(parts):
        if isinstance(part, OnTorch):
            names = [*part.reads, *part.writes]
        else:
            names = [read[1] for read in part.reads] + [write[1] for write in part.writes]
        last.update(dict.fromkeys(names, index))
    ends: dict[int, list[str]] = {}
    for name, index in last.items():
        ends.setdefault(index, []).append(name)
    return ends
