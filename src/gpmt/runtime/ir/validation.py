"""What a legal graph is: each value is written once, before it is read, and has the shape that kernels rely on."""

from __future__ import annotations

from collections.abc import Mapping

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, entry_of, reads, writes
from gpmt.runtime.ir.shapes import ShapeError, check_memory
from gpmt.runtime.ir.values import Value
from gpmt.system import memory_limit


class GraphError(ValueError):
    """A graph that is not legal."""


def check_graph(graph: Graph) -> None:
    """Raise `GraphError` where a graph is not legal."""
    there, memory = {*graph.inputs, *graph.constants}, memory_limit()
    if odd := [name for name, value in graph.values.items() if value.name != name]:
        raise GraphError(f"the value {odd[0]!r} is called {graph.values[odd[0]].name!r}")
    if len(there) != len(graph.inputs) + len(graph.constants):
        raise GraphError("an input or constant is there twice")
    for number, operator in enumerate(graph.operators):
        try:
            check_order(operator, graph.values, there)
            check_shapes(operator, graph.values, memory)
        except (GraphError, ShapeError) as error:
            raise GraphError(f"operator {number} ({type(operator).__name__}): {error}") from None
        there.update(writes(operator))
    if missing := {*graph.outputs} - there:
        raise GraphError(f"it returns {min(missing)!r}, which nothing makes")
    if missing := there - {*graph.values}:
        raise GraphError(f"{min(missing)!r} has no type and shape")


def check_order(operator: Operator, values: Mapping[str, Value], there: set[str]) -> None:
    """Raise `GraphError` where an operator reads what is not there yet, or writes what is there or not known."""
    for name in reads(operator):
        if name not in there:
            raise GraphError(f"it reads {name!r} before that is made")
    made = writes(operator)
    for name in made:
        if name not in values or name in there or made.count(name) > 1:
            raise GraphError(f"it makes {name!r}, which is unknown or there already")


def check_shapes(operator: Operator, values: Mapping[str, Value], memory: int) -> None:
    """Raise `ShapeError` where a native operator's values and weights do not fit together, or do not fit in memory.

    Kernels rely on it: they check nothing while they run. What stays on PyTorch is checked when it runs.

    Args:
        memory: bytes that one value may take, with the zeros around it that its operator needs.
    """
    entry = entry_of(operator)
    if entry.shape is None:
        return
    for field, kind in entry.fields.items():
        held = getattr(operator, field)
        for name in (*kind.reads(held), *kind.writes(held)):
            value = values[name]
            if value.dtype not in kind.dtypes or 0 in value.shape or not value.shape:
                raise ShapeError(
                    f"{name!r} is {value.dtype} {list(value.shape)}, which no kernel can work on"
                )
            check_memory(name, value.shape, memory)
    (output,) = writes(operator)
    shapes = [values[name].shape for name in reads(operator)]
    if entry.reads_images and any(len(shape) != 4 for shape in shapes):
        raise ShapeError("its input is not an image")
    found = values[output].shape
    expected = entry.shape(operator, shapes, found, memory)
    if found != expected:
        raise ShapeError(f"{output!r} has the shape {list(found)}, but is made with {list(expected)}")
