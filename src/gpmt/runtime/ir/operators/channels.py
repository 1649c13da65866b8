"""Concatenations and slices, of the channels of images or along another dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import FEATURE_AXIS, INDEX, INPUT, INPUTS, OUTPUT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require, require_last_features
from gpmt.runtime.ir.values import Shape


@dataclass(frozen=True)
class Concat(Operator):
    """Images concatenated along their channels, or other values along their last dimension, the features.

    Attributes:
        axis: 1, the channels of images, or -1.
    """

    parts: tuple[str, ...]
    output: str
    axis: int = 1


def _concat_shape(concat: Concat, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source, axis = shapes[0], concat.axis
    require(len(source) == 4 or (len(source) > 1 and axis == -1), "its input is not an image")
    if axis == -1:
        require_last_features(output)
    others = {(len(shape), *shape[:axis], *shape[axis:][1:]) for shape in shapes}
    require(len(others) == 1, "its parts do not fit together")
    return *source[:axis], sum(shape[axis] for shape in shapes), *source[axis:][1:]


define(
    Concat,
    fields={"parts": INPUTS, "output": OUTPUT, "axis": FEATURE_AXIS},
    shape=_concat_shape,
    reads_images=False,
)


NATIVE_SLICES = (4, 1), (3, 1), (3, 2), (2, 1)
"""The numbers of dimensions and the axes for which slices have kernels."""


@dataclass(frozen=True)
class Slice(Operator):
    """Elements `first`, first + 1, ... along one dimension, as many as `output` has.

    Kernels know channels of images, and tokens and features of [n, tokens, features]; the others stay on PyTorch.

    Attributes:
        axis: the dimension, by default the channels of images.
    """

    input: str
    output: str
    first: int
    axis: int = 1


def _slice_shape(part: Slice, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source, axis = shapes[0], part.axis
    require(axis < len(source) == len(output), "its output has other dimensions")
    require(part.first + output[axis] <= source[axis], "its input has fewer channels")
    return *source[:axis], output[axis], *source[axis + 1 :]


define(
    Slice,
    fields={"input": INPUT, "output": OUTPUT, "first": INDEX, "axis": INDEX},
    shape=_slice_shape,
    reads_images=False,
)
