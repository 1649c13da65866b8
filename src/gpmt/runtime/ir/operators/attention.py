"""Products of activations, softmax, and the attention that they make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import (
    COUNT,
    FLAG,
    INDEX_TRIPLE,
    INPUT,
    NUMBER,
    OPTIONAL_ARRAY,
    OPTIONAL_INPUT,
    OUTPUT,
)
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require, require_last_features
from gpmt.runtime.ir.values import Floats, Shape

MAX_KEYS = 4096
"""Keys of an attention that kernels can take: the scores of a few queries are on a thread's stack."""


@dataclass(frozen=True)
class MatMul(Operator):
    """output [..., m, n] = left [..., m, k] · right [..., k, n], of equal dimensions before.

    It has no kernel: a pass makes it part of an attention, or leaves it to PyTorch.
    """

    left: str
    right: str
    output: str


def _product_shape(product: MatMul, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    left, right = shapes
    require(len(left) > 1 and left[:-2] == right[:-2] and left[-1] == right[-2], "its inputs do not fit")
    return *left[:-1], right[-1]


define(
    MatMul, fields={"left": INPUT, "right": INPUT, "output": OUTPUT}, shape=_product_shape, reads_images=False
)


@dataclass(frozen=True)
class Softmax(Operator):
    """exp(input) / Σ exp(input) over the last dimension; like `MatMul` it has no kernel of its own."""

    input: str
    output: str


def _softmax_shape(softmax: Softmax, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    require(len(shapes[0]) > 0, "its input is one number")
    return shapes[0]


define(Softmax, fields={"input": INPUT, "output": OUTPUT}, shape=_softmax_shape, reads_images=False)


@dataclass(frozen=True, eq=False)
class HeadAttention(Operator):
    """output = softmax(scale · query · keyᵀ + mask + bias) · value, with the heads apart: [..., tokens, features].

    A pass makes it an `Attention`, which has a kernel, or leaves it to PyTorch.

    Attributes:
        query: [..., queries, features]; key and value: [..., keys, features] with the same dimensions before.
        mask: None, or a value that is added to the scores [batch, heads, queries, keys], of dimensions as long or 1.
        bias: None, or constants [samples, heads, queries, keys] that are added likewise.
        causal: whether a query sees only the keys up to its own place.
    """

    query: str
    key: str
    value: str
    output: str
    scale: float
    mask: str | None = None
    bias: Floats | None = None
    causal: bool = False


def _heads_shape(op: HeadAttention, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    query, key, value = shapes[:3]
    require(
        len(query) > 2 and key == value and query[:-2] == key[:-2] and query[-1] == key[-1],
        "its inputs do not fit",
    )
    for added in [*shapes[3:], *([] if op.bias is None else [op.bias.shape])]:
        require(
            len(added) == 4 and added[2] in (1, query[-2]) and added[3] == key[-2], "its mask does not fit"
        )
    return query


define(
    HeadAttention,
    fields={
        "query": INPUT,
        "key": INPUT,
        "value": INPUT,
        "output": OUTPUT,
        "scale": NUMBER,
        "mask": OPTIONAL_INPUT,
        "bias": OPTIONAL_ARRAY,
        "causal": FLAG,
    },
    shape=_heads_shape,
    reads_images=False,
)


@dataclass(frozen=True, eq=False)
class Attention(Operator):
    """Attention of several heads; head h has the features from h · d to (h + 1) · d - 1 of all inputs and the output.

    output = softmax(scale · query · keyᵀ + mask + bias) · value

    Attributes:
        query: [batch, queries, features]; key and value: [batch, keys, features].
        heads: of equal size.
        first: where the features of query, key and value begin in these: one value may hold all of them.
        mask: None, or a value [1 or batch, 1 or heads, 1 or queries, keys].
        bias: None, or constants [samples, 1 or heads, 1 or queries, keys]; sample b takes b mod samples.
        causal: whether a query sees only the keys up to its own place.
    """

    query: str
    key: str
    value: str
    output: str
    heads: int
    scale: float
    first: tuple[int, int, int] = (0, 0, 0)
    mask: str | None = None
    bias: Floats | None = None
    causal: bool = False


def _attention_shape(op: Attention, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    require(all(len(shape) == 3 for shape in (*shapes[:3], output)), "its inputs are not tokens")
    batch, queries, features = shapes[0][0], shapes[0][1], output[2]
    keys = shapes[1][1]
    require(shapes[1][:2] == shapes[2][:2] == (batch, keys), "its inputs do not fit")
    require(features % op.heads == 0, "its heads do not divide its features")
    require(keys <= MAX_KEYS, f"it has more than {MAX_KEYS} keys")
    inside = zip(op.first, shapes[:3], strict=True)
    require(all(first + features <= shape[2] for first, shape in inside), "its inputs have fewer features")
    for added, batches in [(s, (1, batch)) for s in shapes[3:]] + _bias_shapes(op):
        require(
            len(added) == 4
            and 0 not in added
            and (not batches or added[0] in batches)
            and added[1] in (1, op.heads)
            and added[2] in (1, queries)
            and added[3] == keys,
            "its mask does not fit",
        )
        require_last_features(added)
    return batch, queries, features


def _bias_shapes(op: Attention) -> list[tuple[Shape, Shape]]:
    return [] if op.bias is None else [(op.bias.shape, ())]


define(
    Attention,
    fields={
        "query": INPUT,
        "key": INPUT,
        "value": INPUT,
        "output": OUTPUT,
        "heads": COUNT,
        "scale": NUMBER,
        "first": INDEX_TRIPLE,
        "mask": OPTIONAL_INPUT,
        "bias": OPTIONAL_ARRAY,
        "causal": FLAG,
    },
    shape=_attention_shape,
    reads_images=False,
)
