"""The steps that a graph is lowered to: native steps, which kernels compute, and steps on PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from gpmt.runtime.ir.values import Value
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.candidates import Candidate

PlanesByName = Mapping[str, Planes]
"""The planes of buffers, by the buffers' names or by the kernel arguments that they are."""


@dataclass(frozen=True)
class BufferAddress:
    """The address of pixel (0, 0) of one channel of the first image in a buffer."""

    buffer: str
    channel: int = 0


@dataclass(frozen=True)
class InputTensor:
    """The address of a value's PyTorch tensor, which the step reads.

    Attributes:
        value: the value's name.
        contiguous: whether the kernel needs the tensor contiguous; else it is given the strides.
    """

    value: str
    contiguous: bool = False


@dataclass(frozen=True)
class InputStride:
    """The stride, in bytes, of one dimension of a value's PyTorch tensor, which the step reads."""

    value: str
    dimension: int


@dataclass(frozen=True)
class OutputTensor:
    """The address of a value's PyTorch tensor, which the step writes."""

    value: str


@dataclass(frozen=True)
class Number:
    """An integer that is known when compiling."""

    number: int


Argument = BufferAddress | InputTensor | InputStride | OutputTensor | Number


@dataclass(frozen=True)
class LayerMacs:
    """The multiply-adds of one layer.

    Attributes:
        name: the weight's name in the network.
        dense: multiply-adds of the dense layer.
        kept: multiply-adds with weights that are not zero.
    """

    name: str = ""
    dense: int = 0
    kept: int = 0


NO_WEIGHTS = LayerMacs()


@dataclass(frozen=True, eq=False)
class NativeStep:
    """A step that one kernel computes.

    Attributes:
        label: the operator, for tables.
        arguments: by name, the arguments of the kernel that depend on where values are; the others are constant
            arrays of the candidate.
        candidates: returns the kernels that can compute the step, the best guess first, given the planes of all
            buffers by name.
        macs: of the layer, for a step with weights.
    """

    label: str
    arguments: dict[str, Argument]
    candidates: Callable[[PlanesByName], list[Candidate]]
    macs: LayerMacs = NO_WEIGHTS

    @property
    def buffers(self) -> dict[str, str]:
        """The names of the buffers that the step reads and writes, by kernel argument."""
        return buffers_of(self.arguments)


@dataclass(frozen=True, eq=False)
class TorchStep:
    """A step that PyTorch computes.

    Attributes:
        label: the operators, for tables.
        inputs: names of the values whose tensors it reads, in the order of the arguments of `run`.
        outputs: the values that it computes, in the order of the results of `run`.
        run: takes the input tensors and returns the output tensors.
        reason: why the operators are not native; empty for a step that is not an operator of the network.
        returns_view: whether the (only) output may share the memory of the (only) input.
    """

    label: str
    inputs: tuple[str, ...]
    outputs: tuple[Value, ...]
    run: Callable[..., tuple[torch.Tensor, ...]]
    reason: str = ""
    returns_view: bool = False

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the values that it computes."""
        return tuple(value.name for value in self.outputs)


Step = NativeStep | TorchStep


@dataclass
class LoweredGraph:
    """A graph as steps.

    Attributes:
        steps: in the order of execution.
        planes: of every buffer, by name.
        tensor_shapes: shapes of the values that native steps write as PyTorch tensors, by name.
    """

    steps: list[Step] = field(default_factory=list)
    planes: dict[str, Planes] = field(default_factory=dict)
    tensor_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def buffers_of(arguments: Mapping[str, Argument]) -> dict[str, str]:
    """Return the names of the buffers among a step's arguments, by argument."""
    return {name: a.buffer for name, a in arguments.items() if isinstance(a, BufferAddress)}
