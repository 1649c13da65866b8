"""Tensors under another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import INPUT, OUTPUT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require
from gpmt.runtime.ir.values import Shape


@dataclass(frozen=True)
class Reshape(Operator):
    """The same elements in the same (row-major) order under another shape, that of `output`."""

    input: str
    output: str


def _shape(reshape: Reshape, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    require(math.prod(shapes[0]) == math.prod(output), "it changes the number of elements")
    return output


define(Reshape, fields={"input": INPUT, "output": OUTPUT}, shape=_shape, reads_images=False)
