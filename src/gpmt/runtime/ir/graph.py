"""A network as the runtime sees it: values with fixed shapes, and the operators between them.

Operators are in the order of execution and name their values; every value is made once. Images are
[batch, channels, height, width], vectors [..., features], all float32 where a native operator touches them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Value:
    """What an operator reads or makes: a tensor of a fixed shape."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Activation:
    """What happens to every number at the end of an operator.

    Attributes:
        kind: "none"; "clamp" to [low, high], which is ReLU and ReLU6 as well; "silu"; "hardswish"; "sigmoid".
    """

    kind: Literal["none", "clamp", "silu", "hardswish", "sigmoid"] = "none"
    low: float = -np.inf
    high: float = np.inf


IDENTITY = Activation()
RELU = Activation("clamp", 0.0)
RELU6 = Activation("clamp", 0.0, 6.0)


@dataclass(frozen=True, eq=False)
class Conv:
    """output = activation(convolution of input + bias + residual), all of them images.

    Attributes:
        weight: [filters, channels / groups, height, width].
        bias: [filters].
        padding: zeros before and after (top, left, bottom, right).
        residual: the value that is added, of the output's shape.
        name: the tensor in the network's state_dict that `weight` came from.
    """

    input: str
    output: str
    weight: Floats
    bias: Floats
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    residual: str | None = None
    activation: Activation = IDENTITY
    name: str = ""

    @property
    def depthwise(self) -> bool:
        """Whether every filter reads one channel of its own."""
        return self.groups > 1 and self.weight.shape[:2] == (self.groups, 1)


@dataclass(frozen=True, eq=False)
class Linear:
    """output [..., out_features] = activation(input [..., in_features] · weightᵀ + bias); weight [out, in]."""

    input: str
    output: str
    weight: Floats
    bias: Floats
    activation: Activation = IDENTITY
    name: str = ""


def unpoolable(width: int, outputs: int, kernel: int, stride: int, before: int) -> str:
    """Say why rows of so many columns are not pooled natively to so many outputs; nothing where they are.

    A row of intermediate results is on a thread's stack, as far as 16 windows at a time reach.

    Args:
        kernel, stride: across.
        before: columns of padding on the left.
    """
    if before + width > _WIDEST_POOL:
        return f"its input has more than {_WIDEST_POOL} columns"
    if outputs > 1 and (outputs + 15) * stride + kernel > 2 * _WIDEST_POOL:
        return "its windows are too far apart"
    return f"its windows have more than {_WIDEST_WINDOW} columns" if kernel > _WIDEST_WINDOW else ""


_WIDEST_POOL = 1 << 14
_WIDEST_WINDOW = 64  # columns; kernels have an instruction for each


@dataclass(frozen=True)
class Pool:
    """The largest or the mean number of every window of an image, unless that is `unpoolable`.

    Attributes:
        padding: (top, left, bottom, right); what is outside counts as -inf for "max".
        count_padding: whether the mean divides by the whole window or by the part that is inside the image
            (and its declared padding does not count).
    """

    input: str
    output: str
    kind: Literal["max", "mean"]
    kernel: Pair
    stride: Pair
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_padding: bool = True


@dataclass(frozen=True)
class GlobalMean:
    """The mean of every channel: an image [n, c, h, w] becomes [n, c, 1, 1] or [n, c], as `output` has it."""

    input: str
    output: str


@dataclass(frozen=True, eq=False)
class Affine:
    """output = activation(scale · input + shift) with one scale and one shift [channels] for each channel."""

    input: str
    output: str
    scale: Floats
    shift: Floats
    activation: Activation = IDENTITY


@dataclass(frozen=True)
class Add:
    """output = activation(left + right), images of one shape."""

    left: str
    right: str
    output: str
    activation: Activation = IDENTITY


@dataclass(frozen=True)
class Multiply:
    """output = activation(left · right): images of one shape, or a factor [n, c, 1, 1] for each channel."""

    left: str
    right: str
    output: str
    activation: Activation = IDENTITY


@dataclass(frozen=True)
class Concat:
    """Images one after another along their channels."""

    parts: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Slice:
    """Channels `first`, first + 1, ... of an image, as many as `output` has."""

    input: str
    output: str
    first: int


@dataclass(frozen=True)
class Upsample:
    """An image with every pixel `factor` times, down and across, each of which is one of `FACTORS`."""

    input: str
    output: str
    factor: Pair


FACTORS = 1, 2, 4


@dataclass(frozen=True)
class Reshape:
    """The same numbers in the same (row-major) order under another shape, that of `output`."""

    input: str
    output: str


@dataclass(frozen=True, eq=False)
class Fallback:
    """An operator that stays on PyTorch.

    Attributes:
        run: takes the inputs as tensors and returns a tuple of the outputs.
        target: the name of the ATen operator, for the report.
        reason: why it is not native.
        stored: how a saved program finds the call again: the operator and its arguments as plain data; None if
            it cannot be saved.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[..., tuple[torch.Tensor, ...]]
    target: str
    reason: str
    stored: Any = None


Operator = (
    Conv
    | Linear
    | Pool
    | GlobalMean
    | Affine
    | Add
    | Multiply
    | Concat
    | Slice
    | Upsample
    | Reshape
    | Fallback
)


@dataclass
class Graph:
    """A whole network for one shape of its inputs.

    Attributes:
        values: all values by name.
        operators: in the order of execution.
        inputs: the values that a call gives, in its order.
        outputs: the values that a call returns, in the order of their leaves in the network's result.
        constants: values that are there from the start (buffers and parameters that a fallback reads).
        dynamic_batch: whether the first dimension of every value is the batch, and samples do not depend on one
            another, so that the graph is right for any number of samples.
    """

    values: dict[str, Value]
    operators: list[Operator]
    inputs: list[str]
    outputs: list[str]
    constants: dict[str, torch.Tensor] = field(default_factory=dict)
    dynamic_batch: bool = False


def reads(operator: Operator) -> tuple[str, ...]:
    """Return the names of the values that an operator reads."""
    match operator:
        case Fallback(inputs=inputs):
            return inputs
        case Concat(parts=parts):
            return parts
        case Add(left=left, right=right) | Multiply(left=left, right=right):
            return left, right
        case Conv(input=source, residual=residual) if residual is not None:
            return source, residual
        case _:
            return (operator.input,)


def writes(operator: Operator) -> tuple[str, ...]:
    """Return the names of the values that an operator makes."""
    return operator.outputs if isinstance(operator, Fallback) else (operator.output,)


def own(graph: Graph) -> Graph:
    """Return a graph whose numbers share no memory with the network that it was made from."""
    operators = [_own(operator) for operator in graph.operators]
    constants = {name: tensor.clone() for name, tensor in graph.constants.items()}
    return replace(graph, operators=operators, constants=constants)


def _own(operator: Operator) -> Operator:
    # Arrays that are no views were made on the way here.
    views = {
        name: a for name, a in vars(operator).items() if isinstance(a, np.ndarray) and a.base is not None
    }
    copies: Any = {name: array.copy() for name, array in views.items()}
    return replace(operator, **copies)
