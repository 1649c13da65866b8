"""Operators as calls of PyTorch, for those that have no kernel or whose neighbours are on PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads, writes
from gpmt.runtime.ir.operators import (
    Add,
    Affine,
    Fallback,
    HeadAttention,
    LayerNorm,
    MatMul,
    Multiply,
    Permute,
    PixelsToTokens,
    PlaceTokens,
    Pool,
    Slice,
    Softmax,
    TokensToPixels,
    fallback,
)
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.ir.values import Floats, Value
from gpmt.torch_private import OpOverload

aten = torch.ops.aten
Calls = list[tuple[OpOverload, tuple[Any, ...], dict[str, Any]]]
"""Operators of ATen, each with the arguments after the first, and by name; the first is the input, or what the call
before made."""

_CALLS: dict[type[Operator], Callable[[Graph, Any], Calls]] = {}


def has_calls(operator: Operator) -> bool:
    """Whether `as_fallback` knows the type of an operator."""
    return type(operator) in _CALLS


def as_fallback(graph: Graph, operator: Operator, reason: str) -> Fallback:
    """Return an operator as calls of PyTorch; the graph gets the constants that they read."""
    (output,) = writes(operator)
    targets = _CALLS[type(operator)](graph, operator)
    calls, source = [], reads(operator)[0]
    for index, (target, others, named) in enumerate(targets):
        made = output if index == len(targets) - 1 else f"{output}_part_{index}"
        calls.append(TorchCall(target, (Ref(source), *others), named, (made,)))
        source = made
    made_here = {name for call in calls for name in call.outputs}
    inputs = dict.fromkeys(name for call in calls for name in call.reads() if name not in made_here)
    return fallback(calls, list(inputs), [output], reason)


def _calls_of(
    type: type[Operator],
) -> Callable[[Callable[[Graph, Any], Calls]], Callable[[Graph, Any], Calls]]:
    """Register how small operators of a type are calls of PyTorch."""

    def register(function: Callable[[Graph, Any], Calls]) -> Callable[[Graph, Any], Calls]:
        _CALLS[type] = function
        return function

    return register


@_calls_of(Add)
def _sum(graph: Graph, add: Add) -> Calls:
    return [(aten.add.Tensor, (Ref(add.right),), {}), *_activation(add.activation)]


@_calls_of(Multiply)
def _product(graph: Graph, multiply: Multiply) -> Calls:
    return [(aten.mul.Tensor, (Ref(multiply.right),), {}), *_activation(multiply.activation)]


@_calls_of(Affine)
def _affine(graph: Graph, affine: Affine) -> Calls:
    calls: Calls = []
    for target, factors, neutral in ((aten.mul.Tensor, affine.scale, 1), (aten.add.Tensor, affine.shift, 0)):
        if not np.all(factors == neutral):
            name = f"{affine.output}_{target.__name__}"
            calls.append((target, (_factors(graph, factors, name, images=affine.axis == 1),), {}))
    return calls + _activation(affine.activation)


@_calls_of(Slice)
def _slice(graph: Graph, part: Slice) -> Calls:
    axis = part.axis
    return [(aten.slice.Tensor, (axis, part.first, part.first + graph.values[part.output].shape[axis]), {})]


@_calls_of(Pool)
def _subsampling(graph: Graph, pool: Pool) -> Calls:
    return [(aten.slice.Tensor, (2 + i, None, None, pool.stride[i]), {}) for i in range(2)]


@_calls_of(Permute)
def _permutation(graph: Graph, permute: Permute) -> Calls:
    return [(aten.permute.default, (list(permute.order),), {})]


@_calls_of(PixelsToTokens)
def _tokens(graph: Graph, op: PixelsToTokens) -> Calls:
    shape = list(graph.values[op.output].shape)
    return [(aten.permute.default, ([0, 2, 3, 1],), {}), (aten.reshape.default, (shape,), {})]


@_calls_of(TokensToPixels)
def _pixels(graph: Graph, op: TokensToPixels) -> Calls:
    batch, channels, height, width = graph.values[op.output].shape
    shape = [batch, height, width, channels]
    return [(aten.reshape.default, (shape,), {}), (aten.permute.default, ([0, 3, 1, 2],), {})]


@_calls_of(PlaceTokens)
def _placed(graph: Graph, op: PlaceTokens) -> Calls:
    count = graph.values[op.input].shape[1]
    around = [0, 0, op.first, len(op.constant) - op.first - count]
    padded: Calls = [(aten.constant_pad_nd.default, (around,), {})] if any(around) else []
    return [*padded, (aten.add.Tensor, (_constant(graph, op.constant, f"{op.output}_constant"),), {})]


@_calls_of(LayerNorm)
def _normalised(graph: Graph, norm: LayerNorm) -> Calls:
    shape, epsilon = [norm.weight.size], norm.epsilon
    weight = _constant(graph, norm.weight, f"{norm.output}_weight")
    if norm.centred:
        bias = _constant(graph, norm.bias, f"{norm.output}_bias")
        calls: Calls = [(aten.layer_norm.default, (shape, weight, bias, epsilon), {})]
    else:
        calls = [(aten.rms_norm.default, (shape, weight, epsilon), {})]
        if np.any(norm.bias):
            calls.append((aten.add.Tensor, (_constant(graph, norm.bias, f"{norm.output}_bias"),), {}))
    if norm.axis == -1:
        return calls
    return [
        (aten.permute.default, ([0, 2, 3, 1],), {}),
        *calls,
        (aten.permute.default, ([0, 3, 1, 2],), {}),
    ]


@_calls_of(MatMul)
def _matrix_product(graph: Graph, product: MatMul) -> Calls:
    return [(aten.matmul.default, (Ref(product.right),), {})]


@_calls_of(Softmax)
def _softmax(graph: Graph, softmax: Softmax) -> Calls:
    return [(aten.softmax.int, (-1,), {})]


@_calls_of(HeadAttention)
def _attention(graph: Graph, op: HeadAttention) -> Calls:
    mask = None if op.mask is None else Ref(op.mask)
    if op.bias is not None:
        assert mask is None
        mask = _constant(graph, op.bias, f"{op.output}_bias")
    arguments = Ref(op.key), Ref(op.value), mask, 0.0, op.causal
    return [(aten.scaled_dot_product_attention.default, arguments, {"scale": op.scale})]


def _factors(graph: Graph, factors: Floats, name: str, *, images: bool) -> float | Ref:
    if np.all(factors == factors[0]):
        return float(factors[0])
    return _constant(graph, factors.reshape(-1, 1, 1) if images else factors, name)


def _constant(graph: Graph, array: Floats, name: str) -> Ref:
    name = name.replace(".", "_")
    graph.constants[name] = torch.from_numpy(array)
    graph.values[name] = Value(name, array.shape)
    return Ref(name)


def _activation(activation: Activation) -> Calls:
    match activation.kind:
        case "none":
            return []
        case "clamp":
            return [(aten.clamp.default, (activation.low, activation.high), {})]
        case "gelu" | "gelu_tanh":
            kind = "none" if activation.kind == "gelu" else "tanh"
            return [(aten.gelu.default, (), {"approximate": kind})]
        case "leaky_relu":
            return [(aten.leaky_relu.default, (activation.low,), {})]
        case kind:
            return [(getattr(aten, kind).default, (), {})]
