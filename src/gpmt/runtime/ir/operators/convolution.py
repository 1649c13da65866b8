"""Convolutions of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.ir.fields import (
    ACTIVATION,
    ARRAY,
    COUNT,
    INPUT,
    OPTIONAL_INPUT,
    OUTPUT,
    PADDING,
    PAIR,
    TEXT,
)
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import count_windows, require
from gpmt.runtime.ir.values import Floats, Padding, Pair, Shape


@dataclass(frozen=True, eq=False)
class Conv(Operator):
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
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    residual: str | None = None
    activation: Activation = IDENTITY
    name: str = ""

    @property
    def depthwise(self) -> bool:
        """Whether every filter reads one channel only."""
        return self.groups > 1 and self.weight.shape[:2] == (self.groups, 1)


def _shape(conv: Conv, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source, weight = shapes[0], conv.weight
    require(
        weight.ndim == 4
        and 0 not in weight.shape
        and weight.shape[0] % conv.groups == 0
        and weight.shape[1] * conv.groups == source[1]
        and conv.bias.shape == weight.shape[:1],
        "its weights do not fit its input",
    )
    require(all(shape == output for shape in shapes[1:]), "what it adds is of another shape")
    reach = tuple(d * (k - 1) + 1 for d, k in zip(conv.dilation, weight.shape[2:], strict=True))
    size = count_windows(source, (reach[0], reach[1]), conv.stride, conv.padding, memory)
    return source[0], len(weight), *size


define(
    Conv,
    fields={
        "input": INPUT,
        "output": OUTPUT,
        "weight": ARRAY,
        "bias": ARRAY,
        "stride": PAIR,
        "padding": PADDING,
        "dilation": PAIR,
        "groups": COUNT,
        "residual": OPTIONAL_INPUT,
        "activation": ACTIVATION,
        "name": TEXT,
    },
    shape=_shape,
)
