"""Rows of a table, looked up by integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import ARRAY, INTEGER_INPUT, OUTPUT, TEXT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require, require_last_features
from gpmt.runtime.ir.values import Floats, Shape


@dataclass(frozen=True, eq=False)
class Embedding(Operator):
    """output [..., features] = rows of a table, by the integers of the input [...].

    Attributes:
        input: int64 or int32, an input of the network; calls check that it is from 0 to rows - 1.
        weight: [rows, features].
        name: the tensor in the network's state_dict that `weight` came from.
    """

    input: str
    output: str
    weight: Floats
    name: str = ""


def _shape(op: Embedding, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    require(op.weight.ndim == 2 and 0 not in op.weight.shape, "its weight is not a table")
    require_last_features(output)
    return *shapes[0], op.weight.shape[1]


define(
    Embedding,
    fields={"input": INTEGER_INPUT, "output": OUTPUT, "weight": ARRAY, "name": TEXT},
    shape=_shape,
    reads_images=False,
)
