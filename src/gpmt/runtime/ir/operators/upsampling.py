"""Nearest-neighbour upsampling of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import INPUT, OUTPUT, PAIR
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require
from gpmt.runtime.ir.values import Pair, Shape

FACTORS = 1, 2, 4
"""How often kernels can repeat a row or column."""


@dataclass(frozen=True)
class Upsample(Operator):
    """An image with every pixel `factor` times, down and across, each of which is one of `FACTORS`."""

    input: str
    output: str
    factor: Pair


def _shape(upsample: Upsample, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source, (down, across) = shapes[0], upsample.factor
    require(down in FACTORS and across in FACTORS, "there is no kernel for its factor")
    return *source[:2], down * source[2], across * source[3]


define(Upsample, fields={"input": INPUT, "output": OUTPUT, "factor": PAIR}, shape=_shape)
