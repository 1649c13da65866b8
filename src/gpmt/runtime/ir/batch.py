"""The number of samples that a graph works on, and the same graph for another number."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operators import Fallback


def batch_of(graph: Graph) -> int | None:
    """Return how many samples a graph with a dynamic batch works on; None for others."""
    return common_batch(graph) if graph.dynamic_batch else None


def rebatched(graph: Graph, batch: int) -> Graph:
    """Return a graph for `batch` samples instead."""
    values = {name: replace(value, shape=(batch, *value.shape[1:])) for name, value in graph.values.items()}
    return replace(graph, values=values)


def common_batch(graph: Graph) -> int | None:
    """Return the first dimension of all values, if they share it and nothing stays on PyTorch."""
    if graph.constants or not graph.inputs or any(isinstance(op, Fallback) for op in graph.operators):
        return None
    sizes = {value.shape[0] if value.shape else 0 for value in graph.values.values()}
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else None
