"""Affine maps, sums and products of images, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.ir.fields import ACTIVATION, ARRAY, INPUT, OUTPUT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require
from gpmt.runtime.ir.values import Floats, Shape


@dataclass(frozen=True, eq=False)
class Affine(Operator):
    """output = activation(scale · input + shift) with one scale and one shift [channels] for each channel."""

    input: str
    output: str
    scale: Floats
    shift: Floats
    activation: Activation = IDENTITY


def _affine_shape(affine: Affine, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source = shapes[0]
    require(affine.scale.shape == affine.shift.shape == source[1:2], "its scales do not fit its input")
    return source


define(
    Affine,
    fields={
        "input": INPUT,
        "output": OUTPUT,
        "scale": ARRAY,
        "shift": ARRAY,
        "activation": ACTIVATION,
    },
    shape=_affine_shape,
)


@dataclass(frozen=True)
class Add(Operator):
    """output = activation(left + right), images of one shape."""

    left: str
    right: str
    output: str
    activation: Activation = IDENTITY


def _sum_shape(add: Add, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    require(shapes[0] == shapes[1], "its inputs differ in shape")
    return shapes[0]


define(
    Add,
    fields={"left": INPUT, "right": INPUT, "output": OUTPUT, "activation": ACTIVATION},
    shape=_sum_shape,
)


@dataclass(frozen=True)
class Multiply(Operator):
    """output = activation(left · right): images of one shape, or a factor [n, c, 1, 1] for each channel."""

    left: str
    right: str
    output: str
    activation: Activation = IDENTITY


def _product_shape(product: Multiply, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source, factor = shapes
    require(factor in (source, (*source[:2], 1, 1)), "its factor does not fit its input")
    return source


define(
    Multiply,
    fields={"left": INPUT, "right": INPUT, "output": OUTPUT, "activation": ACTIVATION},
    shape=_product_shape,
)
