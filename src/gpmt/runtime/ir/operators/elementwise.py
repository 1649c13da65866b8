"""Affine maps, sums and products, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.ir.fields import ACTIVATION, ARRAY, FEATURE_AXIS, INPUT, OUTPUT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require, require_last_features
from gpmt.runtime.ir.values import Floats, Shape


@dataclass(frozen=True, eq=False)
class Affine(Operator):
    """output = activation(scale · input + shift) with one scale and one shift [channels] for each channel.

    Attributes:
        axis: the channels' dimension: 1, of images, or -1, the features of other values.
    """

    input: str
    output: str
    scale: Floats
    shift: Floats
    activation: Activation = IDENTITY
    axis: int = 1


def _affine_shape(affine: Affine, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source = shapes[0]
    require(len(source) == 4 or (len(source) > 1 and affine.axis == -1), "its input is not an image")
    fits = affine.scale.shape == affine.shift.shape == (source[affine.axis],)
    require(fits, "its scales do not fit its input")
    if affine.axis == -1:
        require_last_features(source)
    return source


define(
    Affine,
    fields={
        "input": INPUT,
        "output": OUTPUT,
        "scale": ARRAY,
        "shift": ARRAY,
        "activation": ACTIVATION,
        "axis": FEATURE_AXIS,
    },
    shape=_affine_shape,
    reads_images=False,
)


@dataclass(frozen=True)
class Add(Operator):
    """output = activation(left + right), of one shape."""

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
    reads_images=False,
)


@dataclass(frozen=True)
class Multiply(Operator):
    """output = activation(left · right): of one shape, or an image and a factor [n, c, 1, 1] for each channel."""

    left: str
    right: str
    output: str
    activation: Activation = IDENTITY


def _product_shape(product: Multiply, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source, factor = shapes
    gate = len(source) == 4 and factor == (*source[:2], 1, 1)
    require(factor == source or gate, "its factor does not fit its input")
    return source


define(
    Multiply,
    fields={"left": INPUT, "right": INPUT, "output": OUTPUT, "activation": ACTIVATION},
    shape=_product_shape,
    reads_images=False,
)
