"""Operators on PyTorch side by side become one, so that a call seldom changes between kernels and PyTorch."""

from __future__ import annotations

from collections import defaultdict
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
    Reshape,
    Slice,
    fallback,
)
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.ir.values import Floats, Value
from gpmt.torch_private import OpOverload

aten = torch.ops.aten
_BESIDE = "its neighbours are on PyTorch"


def group(graph: Graph) -> Graph:
    """Return the graph with its operators on PyTorch brought together, and without values that nobody reads."""
    if not any(isinstance(operator, Fallback) for operator in graph.operators):
        return graph
    graph = _small_along(graph)
    operators = _schedule(graph, _reshapes_along(graph))
    return replace(graph, operators=_merge(graph, operators))


def readers(graph: Graph) -> dict[str, list[Operator]]:
    """Return for every value who reads it, an operator once for each time; outputs of the graph do not count."""
    found = defaultdict(list)
    for operator in graph.operators:
        for name in reads(operator):
            found[name].append(operator)
    return found


def _small_along(graph: Graph) -> Graph:
    """Leave to PyTorch the sums, products, scales, activations and slices that no image of a kernel comes near to."""
    small = [operator for operator in graph.operators if _is_small(operator)]
    native = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        if isinstance(operator, Conv | Pool | GlobalMean | Concat) and not _is_small(operator):
            native.update(_touches(operator))
    for order in (small, small[::-1]):
        for operator in order:
            if not native.isdisjoint(_touches(operator)):
                native.update(_touches(operator))
    result = Graph(dict(graph.values), [], graph.inputs, graph.outputs, dict(graph.constants))
    for operator in graph.operators:
        leave = _is_small(operator) and native.isdisjoint(_touches(operator))
        result.operators.append(_on_torch(result, operator) if leave else operator)
    return result


def _is_small(operator: Operator) -> bool:
    small = isinstance(operator, Affine | Add | Multiply | Slice)
    return small or (isinstance(operator, Pool) and thins(operator))


def thins(pool: Pool) -> bool:
    """Whether it only leaves out rows and columns."""
    return pool.kernel == (1, 1) and not any(pool.padding)


def _touches(operator: Operator) -> tuple[str, ...]:
    return *reads(operator), *writes(operator)


def _on_torch(graph: Graph, operator: Operator) -> Fallback:
    """Return a small operator as calls of PyTorch; the graph gets the constants that they read."""
    (output,) = writes(operator)
    calls: list[tuple[OpOverload, tuple[Any, ...]]] = []
    match operator:
        case Add():
            calls = [(aten.add.Tensor, (Ref(operator.right),)), *_activation(operator.activation)]
        case Multiply():
            calls = [(aten.mul.Tensor, (Ref(operator.right),)), *_activation(operator.activation)]
        case Affine():
            for target, numbers, idle in (
                (aten.mul.Tensor, operator.scale, 1),
                (aten.add.Tensor, operator.shift, 0),
            ):
                if not np.all(numbers == idle):
                    calls.append((target, (_constant(graph, numbers, f"{output}_{target.__name__}"),)))
            calls += _activation(operator.activation)
        case Slice(first=first):
            calls = [(aten.slice.Tensor, (1, first, first + graph.values[output].shape[1]))]
        case Pool():
            calls = [(aten.slice.Tensor, (2 + i, None, None, operator.stride[i])) for i in range(2)]
    steps, source = [], reads(operator)[0]
    for index, (target, others) in enumerate(calls):
        made = output if index == len(calls) - 1 else f"{output}_part_{index}"
        steps.append(TorchCall(target, (Ref(source), *others), {}, (made,)))
        source = made
    made_here = {name for step in steps for name in step.outputs}
    inputs = dict.fromkeys(name for step in steps for name in step.reads() if name not in made_here)
    return fallback(steps, list(inputs), [output], _BESIDE)


def _constant(graph: Graph, numbers: Floats, name: str) -> float | Ref:
    if np.all(numbers == numbers[0]):
        return float(numbers[0])
    name = name.replace(".", "_")
    graph.constants[name] = torch.from_numpy(numbers.reshape(-1, 1, 1))
    graph.values[name] = Value(name, (numbers.size, 1, 1))
    return Ref(name)


def _activation(activation: Activation) -> list[tuple[OpOverload, tuple[Any, ...]]]:
    match activation.kind:
        case "none":
            return []
        case "clamp":
            return [(aten.clamp.default, (activation.low, activation.high))]
        case kind:
            return [(getattr(aten, kind).default, ())]


def _reshapes_along(graph: Graph) -> list[Operator]:
    """Leave to PyTorch the new shapes of what it makes, and of what only it reads."""
    read_by = readers(graph)
    on_torch = {id(operator) for operator in graph.operators if isinstance(operator, Fallback)}
    made: dict[str, Operator] = {}
    # Backwards for chains before an operator on PyTorch, then forwards for those after it.
    for operator in reversed(graph.operators):
        if isinstance(operator, Reshape) and operator.output not in graph.outputs:
            after = read_by[operator.output]
            if after and all(id(reader) in on_torch for reader in after):
                on_torch.add(id(operator))
    result = []
    for operator in graph.operators:
        before = made.get(operator.input) if isinstance(operator, Reshape) else None
        if isinstance(operator, Reshape) and (id(operator) in on_torch or isinstance(before, Fallback)):
            shape = list(graph.values[operator.output].shape)
            step = TorchCall(aten.reshape.default, (Ref(operator.input), shape), {}, (operator.output,))
            operator = fallback([step], [operator.input], [operator.output], _BESIDE)
        made |= dict.fromkeys(writes(operator), operator)
        result.append(operator)
    return result


def _schedule(graph: Graph, operators: list[Operator]) -> list[Operator]:
    """Run all native operators that can run, then all on PyTorch, and so on; each kind in the order that it had."""
    there = {*graph.inputs, *graph.constants}
    waiting, result = operators, []
    on_torch = False
    while waiting:
        later = []
        for operator in waiting:
            if isinstance(operator, Fallback) == on_torch and there.issuperset(reads(operator)):
                there.update(writes(operator))
                result.append(operator)
            else:
                later.append(operator)
        waiting, on_torch = later, not on_torch
    return result


def _merge(graph: Graph, operators: list[Operator]) -> list[Operator]:
    """Make one of neighbours on PyTorch, with the outputs that others read."""
    wanted = {*graph.outputs}
    result: list[Operator] = []
    run: list[Fallback] = []
    for operator in reversed(operators):
        if isinstance(operator, Fallback):
            run.insert(0, operator)
            continue
        result += _one(run, wanted)
        run = []
        result.append(operator)
        wanted.update(reads(operator))
    result += _one(run, wanted)
    result.reverse()
    return result


def _one(run: list[Fallback], wanted: set[str]) -> list[Operator]:
    if not run:
        return []
    steps = [step for part in run for step in part.calls.calls]
    made: set[str] = set()
    inputs: dict[str, None] = {}
    for step in steps:
        inputs |= dict.fromkeys(name for name in step.reads() if name not in made)
        made.update(name for name in step.outputs if name is not None)
    outputs = [name for part in run for name in part.outputs if name in wanted]
    reasons = dict.fromkeys(part.reason for part in run if part.reason != _BESIDE)
    wanted.update(inputs)
    return [fallback(steps, list(inputs), outputs, "; ".join(reasons) or run[0].reason)]
