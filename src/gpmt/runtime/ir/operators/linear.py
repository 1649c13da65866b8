"""Linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.ir.fields import ACTIVATION, ARRAY, INPUT, OPTIONAL_INPUT, OUTPUT, TEXT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require
from gpmt.runtime.ir.values import Floats, Shape


@dataclass(frozen=True, eq=False)
class Linear(Operator):
    """output [..., out_features] = activation(input [..., in_features] · weightᵀ + bias + residual).

    Attributes:
        weight: [out_features, in_features].
        bias: [out_features].
        name: the tensor in the network's state_dict that `weight` came from.
        residual: the value that is added, of the output's shape.
    """

    input: str
    output: str
    weight: Floats
    bias: Floats
    activation: Activation = IDENTITY
    name: str = ""
    residual: str | None = None


def _shape(linear: Linear, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source, weight = shapes[0], linear.weight
    require(
        weight.ndim == 2
        and len(source) > 1
        and source[-1] == weight.shape[1]
        and linear.bias.shape == weight.shape[:1],
        "its weights do not fit its input",
    )
    require(all(shape == output for shape in shapes[1:]), "what it adds is of another shape")
    return *source[:-1], len(weight)


define(
    Linear,
    fields={
        "input": INPUT,
        "output": OUTPUT,
        "weight": ARRAY,
        "bias": ARRAY,
        "activation": ACTIVATION,
        "name": TEXT,
        "residual": OPTIONAL_INPUT,
    },
    shape=_shape,
    reads_images=False,
)
