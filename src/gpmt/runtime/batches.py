"""A graph for another number of images: what makes one program serve batches of every size."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.graph import Fallback, Graph, Reshape


def batch_of(graph: Graph) -> int | None:
    """Return how many samples a graph works on, if they do not depend on one another; None where that is not plain.

    It is plain where all operators are native and every value's first dimension is the same: native operators treat
    samples one by one.
    """
    if graph.constants or any(isinstance(operator, Fallback) for operator in graph.operators):
        return None
    sizes = {value.shape[0] if value.shape else 0 for value in graph.values.values()}
    if len(sizes) != 1 or 0 in sizes:
        return None
    # A reshape may only rearrange what belongs to one sample.
    [size] = sizes
    shapes = [graph.values[op.output].shape for op in graph.operators if isinstance(op, Reshape)]
    return size if all(shape[0] == size for shape in shapes) else None


def rebatched(graph: Graph, batch: int) -> Graph:
    """Return a graph for `batch` samples instead."""
    values = {name: replace(value, shape=(batch, *value.shape[1:])) for name, value in graph.values.items()}
    return Graph(values, graph.operators, graph.inputs, graph.outputs, graph.constants)
