"""Fallbacks are brought together, so that a call seldom changes between kernels and PyTorch."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads, writes
from gpmt.runtime.ir.operators import Fallback, fallback

BESIDE_FALLBACKS = "its neighbours are on PyTorch"
"""The reason of operators that have kernels, but become fallbacks because of what is around them."""


def partition_fallbacks(graph: Graph) -> Graph:
    """Return the graph with neighbouring fallbacks as one, in an order that makes many of them neighbours."""
    return replace(graph, operators=_merge(graph, _schedule(graph)))


def _schedule(graph: Graph) -> list[Operator]:
    """Order operators: all native ones that can run, then all fallbacks that can run, and so on."""
    there = {*graph.inputs, *graph.constants}
    waiting, result = graph.operators, list[Operator]()
    fallbacks = False
    while waiting:
        later = []
        for operator in waiting:
            if isinstance(operator, Fallback) == fallbacks and there.issuperset(reads(operator)):
                there.update(writes(operator))
                result.append(operator)
            else:
                later.append(operator)
        waiting, fallbacks = later, not fallbacks
    return result


def _merge(graph: Graph, operators: list[Operator]) -> list[Operator]:
    """Make one of fallbacks without a native operator between them, with the outputs that others read."""
    wanted = {*graph.outputs}
    result: list[Operator] = []
    neighbours: list[Fallback] = []
    for operator in reversed(operators):
        if isinstance(operator, Fallback):
            neighbours.insert(0, operator)
            continue
        result += _merged(neighbours, wanted)
        neighbours = []
        result.append(operator)
        wanted.update(reads(operator))
    result += _merged(neighbours, wanted)
    result.reverse()
    return result


def _merged(neighbours: list[Fallback], wanted: set[str]) -> list[Operator]:
    """Return fallbacks as one, or none; `wanted`, what later operators read, gets what it reads."""
    if not neighbours:
        return []
    calls = [call for part in neighbours for call in part.calls.calls]
    made: set[str] = set()
    inputs: dict[str, None] = {}
    for call in calls:
        inputs |= dict.fromkeys(name for name in call.reads() if name not in made)
        made.update(name for name in call.outputs if name is not None)
    outputs = [name for part in neighbours for name in part.outputs if name in wanted]
    reasons = dict.fromkeys(part.reason for part in neighbours if part.reason != BESIDE_FALLBACKS)
    wanted.update(inputs)
    return [fallback(calls, list(inputs), outputs, "; ".join(reasons) or neighbours[0].reason)]
