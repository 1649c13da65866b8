"""Affine maps of vectors, which no linear layer took, become affine maps of images of one pixel."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator
from gpmt.runtime.ir.operators import Affine, Reshape
from gpmt.runtime.ir.values import Value


def affine_as_image(graph: Graph) -> Graph:
    """Return the graph with all affine maps on images; kernels know no others."""
    values, operators = dict(graph.values), list[Operator]()
    for operator in graph.operators:
        if not isinstance(operator, Affine) or len(values[operator.input].shape) == 4:
            operators.append(operator)
            continue
        shape = values[operator.input].shape
        before, after = f"{operator.output}_before", f"{operator.output}_after"
        for name in (before, after):
            values[name] = Value(name, (*shape, 1, 1))
        operators += [
            Reshape(operator.input, before),
            replace(operator, input=before, output=after),
            Reshape(after, operator.output),
        ]
    return replace(graph, values=values, operators=operators)
