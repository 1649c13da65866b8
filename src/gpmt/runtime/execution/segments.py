"""Native steps that follow one another: one run of the thread pool, on tensors that each call gives anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.runtime.lowering.steps import InputStride, InputTensor, OutputTensor
from gpmt.runtime.threads.thread_pool import Row, StepTable


@dataclass
class Segment:
    """Native steps that follow one another.

    Attributes:
        arguments: int64 [samples, arguments of all steps of the network], what kernels find at their pointers.
        rows: of the table; each step's arguments for the first sample, and the bytes from there to the next sample's.
        inputs: (index in `arguments`, what is written there) for the tensors that the steps read.
        outputs: (index in `arguments`, what is written there) for the tensors that the steps write.
        kept: arrays that arguments point to.
        table: the steps, once all are known.
    """

    arguments: NDArray[np.int64]
    rows: list[Row] = field(default_factory=list)
    inputs: list[tuple[int, InputTensor | InputStride]] = field(default_factory=list)
    outputs: list[tuple[int, OutputTensor]] = field(default_factory=list)
    kept: list[NDArray[np.int64]] = field(default_factory=list)
    table: StepTable = field(init=False)

    def single_step_tables(self) -> list[StepTable]:
        """Return a table for each step."""
        return [StepTable([row]) for row in self.rows]

    @property
    def values(self) -> list[str]:
        """The names of all values that the steps read or write as tensors."""
        return [entry.value for _, entry in [*self.inputs, *self.outputs]]

    @property
    def address_count(self) -> int:
        """How many arguments are addresses of tensors."""
        return sum(isinstance(entry, InputTensor) for _, entry in self.inputs) + len(self.outputs)

    def bind(self, values: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Write the arguments that depend on tensors, for the first sample.

        Args:
            values: tensors by name. Those that the steps read are replaced by contiguous ones where a kernel needs
                that; new tensors are added for those that the steps write.
            shapes: of the tensors that the steps write, by name.
        """
        # First, since later steps of the segment may read them.
        for index, output in self.outputs:
            tensor = torch.empty(shapes[output.value], dtype=torch.float32, device="cpu")
            values[output.value] = tensor
            self.arguments[0, index] = tensor.data_ptr()
        # Before any address is taken: a tensor that is replaced may be freed.
        for _, entry in self.inputs:
            if isinstance(entry, InputTensor) and entry.contiguous:
                values[entry.value] = values[entry.value].contiguous()
        for index, entry in self.inputs:
            tensor = values[entry.value]
            if isinstance(entry, InputStride):
                self.arguments[0, index] = 4 * tensor.stride(entry.dimension)
            else:
                self.arguments[0, index] = tensor.data_ptr()

    def bind_batch(
        self, inputs: dict[str, Tensor], outputs: Mapping[str, Tensor], updates: NDArray[np.int64]
    ) -> None:
        """Write the arguments that depend on the tensors of a whole batch, which is then run in parts.

        Args:
            inputs: [samples, ...] by name; replaced by contiguous ones where a kernel needs that.
            outputs: [samples, ...] by name, which the steps write, and may read again.
            updates: [address_count, 4], is filled as sample_loop.py says.
        """
        base, apart, rows = int(self.arguments.ctypes.data), self.arguments.strides[0], []
        for index, entry in self.inputs:
            name = entry.value
            if isinstance(entry, InputStride):
                tensor = outputs[name] if name in outputs else inputs[name]
                self.arguments[:, index] = 4 * tensor.stride(entry.dimension)
                continue
            if entry.contiguous and name in inputs:
                inputs[name] = inputs[name].contiguous()
            tensor = outputs[name] if name in outputs else inputs[name]
            bytes_apart = tensor.element_size() * tensor.stride(0)
            rows.append((base + 8 * index, apart, tensor.data_ptr(), bytes_apart))
        for index, output in self.outputs:
            tensor = outputs[output.value]
            rows.append((base + 8 * index, apart, tensor.data_ptr(), 4 * tensor.stride(0)))
        updates[:] = rows
