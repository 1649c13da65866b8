"""Concatenations and slices of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import INDEX, INPUT, INPUTS, OUTPUT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require
from gpmt.runtime.ir.values import Shape


@dataclass(frozen=True)
class Concat(Operator):
    """Images concatenated along their channels."""

    parts: tuple[str, ...]
    output: str


def _concat_shape(concat: Concat, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source = shapes[0]
    require(len({(shape[0], *shape[2:]) for shape in shapes}) == 1, "its parts do not fit together")
    return source[0], sum(shape[1] for shape in shapes), *source[2:]


define(Concat, fields={"parts": INPUTS, "output": OUTPUT}, shape=_concat_shape)


@dataclass(frozen=True)
class Slice(Operator):
    """Channels `first`, first + 1, ... of an image, as many as `output` has."""

    input: str
    output: str
    first: int


def _slice_shape(part: Slice, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source = shapes[0]
    require(len(output) == 4 and part.first + output[1] <= source[1], "its input has fewer channels")
    return source[0], output[1], *source[2:]


define(Slice, fields={"input": INPUT, "output": OUTPUT, "first": INDEX}, shape=_slice_shape)
