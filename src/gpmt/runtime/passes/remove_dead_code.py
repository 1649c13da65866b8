"""What no output depends on is removed."""

from __future__ import annotations

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads, writes


def remove_dead_code(graph: Graph) -> Graph:
    """Return the graph without operators, values and constants that no output depends on; inputs stay."""
    needed = {*graph.outputs}
    kept: list[Operator] = []
    for operator in reversed(graph.operators):
        if not needed.isdisjoint(writes(operator)):
            needed.update(reads(operator))
            kept.append(operator)
    kept.reverse()
    there = {*graph.inputs}.union(*(writes(operator) for operator in kept))
    constants = {name: data for name, data in graph.constants.items() if name in needed}
    values = {name: value for name, value in graph.values.items() if name in there or name in constants}
    return Graph(values, kept, list(graph.inputs), list(graph.outputs), constants)
