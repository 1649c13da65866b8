"""Small operators on images that are not near any large one become fallbacks.

To copy an image to and from the layout that kernels read takes longer than a sum does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads, writes
from gpmt.runtime.ir.operators import (
    Add,
    Affine,
    Concat,
    Conv,
    Fallback,
    GlobalMean,
    Multiply,
    Pool,
    Slice,
    fallback,
)
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.ir.values import Floats, Value
from gpmt.runtime.passes.partition_fallbacks import BESIDE_FALLBACKS
from gpmt.torch_private import OpOverload

aten = torch.ops.aten
Calls = list[tuple[OpOverload, tuple[Any, ...]]]
"""Operators of ATen, each with the arguments after the first; that is the input, or what the call before made."""

_LARGE = Conv, Pool, GlobalMean, Concat
_CALLS: dict[type[Operator], Callable[[Graph, Any], Calls]] = {}


def small_operators_to_fallbacks(graph: Graph) -> Graph:
    """Return the graph with small operators as fallbacks, where only other small ones and fallbacks are near."""
    if not any(isinstance(operator, Fallback) for operator in graph.operators):
        return graph
    small = [operator for operator in graph.operators if _is_small(operator)]
    native = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        if isinstance(operator, _LARGE) and not _is_small(operator):
            native.update(_values_of(operator))
    for order in (small, small[::-1]):
        for operator in order:
            if not native.isdisjoint(_values_of(operator)):
                native.update(_values_of(operator))
    result = replace(graph, values=dict(graph.values), operators=[], constants=dict(graph.constants))
    for operator in graph.operators:
        if _is_small(operator) and native.isdisjoint(_values_of(operator)):
            operator = _as_fallback(result, operator)
        result.operators.append(operator)
    return result


def _is_small(operator: Operator) -> bool:
    return type(operator) in _CALLS and (not isinstance(operator, Pool) or operator.is_subsampling)


def _values_of(operator: Operator) -> tuple[str, ...]:
    return *reads(operator), *writes(operator)


def _as_fallback(graph: Graph, operator: Operator) -> Fallback:
    """Return a small operator as calls of PyTorch; the graph gets the constants that they read."""
    (output,) = writes(operator)
    targets = _CALLS[type(operator)](graph, operator)
    calls, source = [], reads(operator)[0]
    for index, (target, others) in enumerate(targets):
        made = output if index == len(targets) - 1 else f"{output}_part_{index}"
        calls.append(TorchCall(target, (Ref(source), *others), {}, (made,)))
        source = made
    made_here = {name for call in calls for name in call.outputs}
    inputs = dict.fromkeys(name for call in calls for name in call.reads() if name not in made_here)
    return fallback(calls, list(inputs), [output], BESIDE_FALLBACKS)


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
    return [(aten.add.Tensor, (Ref(add.right),)), *_activation(add.activation)]


@_calls_of(Multiply)
def _product(graph: Graph, multiply: Multiply) -> Calls:
    return [(aten.mul.Tensor, (Ref(multiply.right),)), *_activation(multiply.activation)]


@_calls_of(Affine)
def _affine(graph: Graph, affine: Affine) -> Calls:
    calls: Calls = []
    for target, factors, neutral in ((aten.mul.Tensor, affine.scale, 1), (aten.add.Tensor, affine.shift, 0)):
        if not np.all(factors == neutral):
            calls.append((target, (_constant(graph, factors, f"{affine.output}_{target.__name__}"),)))
    return calls + _activation(affine.activation)


@_calls_of(Slice)
def _slice(graph: Graph, part: Slice) -> Calls:
    return [(aten.slice.Tensor, (1, part.first, part.first + graph.values[part.output].shape[1]))]


@_calls_of(Pool)
def _subsampling(graph: Graph, pool: Pool) -> Calls:
    return [(aten.slice.Tensor, (2 + i, None, None, pool.stride[i])) for i in range(2)]


def _constant(graph: Graph, factors: Floats, name: str) -> float | Ref:
    if np.all(factors == factors[0]):
        return float(factors[0])
    name = name.replace(".", "_")
    graph.constants[name] = torch.from_numpy(factors.reshape(-1, 1, 1))
    graph.values[name] = Value(name, (factors.size, 1, 1))
    return Ref(name)


def _activation(activation: Activation) -> Calls:
    match activation.kind:
        case "none":
            return []
        case "clamp":
            return [(aten.clamp.default, (activation.low, activation.high))]
        case kind:
            return [(getattr(aten, kind).default, ())]
