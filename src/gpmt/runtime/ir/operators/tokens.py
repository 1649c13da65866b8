"""Tokens [n, tokens, features] put between constant ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import ARRAY, INDEX, INPUT, OUTPUT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require
from gpmt.runtime.ir.values import Floats, Shape


@dataclass(frozen=True, eq=False)
class PlaceTokens(Operator):
    """output[n, t] = constant[t] + input[n, t - first], where the input has such a token.

    It is the sum with a position embedding, and the concatenation with a class token.

    Attributes:
        input: [n, tokens, features].
        constant: [tokens of the output, features].
    """

    input: str
    output: str
    constant: Floats
    first: int = 0


def _shape(op: PlaceTokens, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source = shapes[0]
    require(len(source) == 3 and op.constant.ndim == 2, "its input or its constant are not tokens")
    fits = op.first + source[1] <= op.constant.shape[0] and op.constant.shape[1] == source[2]
    require(fits, "its constant does not fit its input")
    return source[0], *op.constant.shape


define(
    PlaceTokens,
    fields={"input": INPUT, "output": OUTPUT, "constant": ARRAY, "first": INDEX},
    shape=_shape,
    reads_images=False,
)
