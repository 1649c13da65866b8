"""Operators on PyTorch side by side become one, so that a call seldom changes between kernels and PyTorch."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload

from gpmt.runtime.calls import Calls, Ref, Step, fallback
from gpmt.runtime.graph import (
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    Fallback,
    GlobalMean,
    Graph,
    Operator,
    Pool,
    Reshape,
    Value,
    reads,
    writes,
)

_BESIDE = "its neighbours are on PyTorch"
_IMAGES = Conv | Pool | GlobalMean | Concat


def group(graph: Graph) -> Graph:
    """Return the graph with its operators on PyTorch brought together, and without values that nobody reads."""
    if not any(isinstance(operator, Fallback) for operator in graph.operators):
        return graph
    graph = _sums_along(graph)
    operators = _schedule(graph, _reshapes_along(graph))
    return replace(graph, operators=_merge(graph, operators))


def readers(graph: Graph) -> dict[str, list[Operator]]:
    """Return for every value who reads it, an operator once for each time; outputs of the graph do not count."""
    found = defaultdict(list)
    for operator in graph.operators:
        for name in reads(operator):
            found[name].append(operator)
    return found


def _sums_along(graph: Graph) -> Graph:
    """Leave to PyTorch the sums, scales and activations that no image of a kernel comes near to."""
    native = {
        name for operator in graph.operators if isinstance(operator, _IMAGES) for name in _touches(operator)
    }
    native |= {*graph.inputs, *graph.outputs}
    simple = [operator for operator in graph.operators if isinstance(operator, Affine | Add)]
    for order in (simple, simple[::-1]):
        for operator in order:
            if not native.isdisjoint(_touches(operator)):
                native.update(_touches(operator))
    result = Graph(dict(graph.values), [], graph.inputs, graph.outputs, dict(graph.constants))
    for operator in graph.operators:
        if isinstance(operator, Affine | Add) and native.isdisjoint(_touches(operator)):
            operator = _on_torch(result, operator)
        result.operators.append(operator)
    return result


def _touches(operator: Operator) -> tuple[str, ...]:
    return *reads(operator), *writes(operator)


def _on_torch(graph: Graph, operator: Affine | Add) -> Fallback:
    """Return a sum, or a scale and shift, as calls of PyTorch; the graph gets the constants that they read."""
    aten = torch.ops.aten
    output = operator.output
    pairs: list[tuple[OpOverload, Any]] = []
    if isinstance(operator, Add):
        source = operator.left
        pairs.append((aten.add.Tensor, Ref(operator.right)))
    else:
        source = operator.input
        for target, numbers, idle in (
            (aten.mul.Tensor, operator.scale, 1),
            (aten.add.Tensor, operator.shift, 0),
        ):
            if np.all(numbers == idle):
                continue
            if np.all(numbers == numbers[0]):
                pairs.append((target, float(numbers[0])))
                continue
            name = f"{output}_constant_{len(pairs)}"
            graph.constants[name] = torch.from_numpy(numbers.reshape(-1, 1, 1))
            graph.values[name] = Value(name, (numbers.size, 1, 1))
            pairs.append((target, Ref(name)))
    calls = [(target, (other,)) for target, other in pairs]
    match operator.activation:
        case Activation("clamp", low, high):
            calls.append((aten.clamp.default, (low, high)))
        case Activation(kind="silu" | "hardswish" | "sigmoid" as kind):
            calls.append((getattr(aten, kind).default, ()))
    steps = []
    for index, (target, others) in enumerate(calls):
        made = output if index == len(calls) - 1 else f"{output}_part_{index}"
        steps.append(Step(target, (Ref(source), *others), {}, (made,)))
        source = made
    inputs = [name for step in steps for name in step.reads() if name in graph.values and name != output]
    return fallback(steps, list(dict.fromkeys(inputs)), [output], _BESIDE)


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
            step = Step(torch.ops.aten.reshape.default, (Ref(operator.input), shape), {}, (operator.output,))
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
        if isinstance(operator, Fallback) and isinstance(operator.run, Calls):
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
    steps = [step for part in run if isinstance(part.run, Calls) for step in part.run.steps]
    made: set[str] = set()
    inputs: dict[str, None] = {}
    for step in steps:
        inputs |= dict.fromkeys(name for name in step.reads() if name not in made)
        made.update(name for name in step.outputs if name is not None)
    outputs = [name for part in run for name in part.outputs if name in wanted]
    reasons = dict.fromkeys(part.reason for part in run if part.reason != _BESIDE)
    wanted.update(inputs)
    return [fallback(steps, list(inputs), outputs, "; ".join(reasons) or run[0].reason)]
