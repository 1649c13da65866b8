"""A graph as a JSON document and tensors, and back; what is read is checked, since anyone may have written it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gpmt.errors import RuntimeProgramError
from gpmt.formats.bits import same_bits
from gpmt.formats.sparse.types import DTYPES
from gpmt.runtime.ir.document import (
    DocumentError,
    read_flag,
    read_integer,
    read_list,
    read_table,
    read_text,
    shorten,
)
from gpmt.runtime.ir.fields import read_tensor
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import OPERATORS, Operator, entry_of, writes
from gpmt.runtime.ir.shapes import ShapeError
from gpmt.runtime.ir.validation import GraphError, check_order, check_shapes
from gpmt.runtime.ir.values import Value
from gpmt.system import memory_limit

_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}
_MAX_DIMENSIONS = 64


def write(graph: Graph) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a graph as what JSON can hold, and its tensors by the names that it has for them.

    Weights have the names that they have in the network.

    Raises:
        DocumentError: a call of PyTorch has arguments that are not plain data.
        TypeError: an operator is not in the table of operators.
    """
    tensors: dict[str, Tensor] = {}

    def put(data: Tensor, wanted: str) -> str:
        """Return the name that a tensor gets; a layer that the network uses twice has its weights once."""
        name, number = wanted, 1
        while name in tensors and not same_bits(tensors[name], data):
            number += 1
            name = f"{wanted}_{number}"
        tensors[name] = data
        return name

    constants = {name: put(data.detach(), name) for name, data in graph.constants.items()}
    operators = [entry_of(operator).encode(operator, put) for operator in graph.operators]
    values = [
        [value.name, str(value.dtype).removeprefix("torch."), list(value.shape)]
        for value in graph.values.values()
    ]
    document = {
        "values": values,
        "operators": operators,
        "inputs": graph.inputs,
        "outputs": graph.outputs,
        "constants": constants,
        "free": graph.dynamic_batch,
    }
    return document, tensors


def read(document: object, tensors: Mapping[str, Tensor]) -> Graph:
    """Return the graph that `write` described; every name, type, shape and number is checked.

    What operators on PyTorch make is checked when they run, as in every program.

    Args:
        document: what JSON held.
        tensors: of the file, by name.

    Raises:
        DocumentError: the document is not valid; it says what is wrong.
    """
    table = read_table(document, "graph", ("values", "operators", "inputs", "outputs", "constants", "free"))
    values = _read_values(table["values"])
    inputs = [read_text(name, "input") for name in read_list(table["inputs"], "inputs")]
    outputs = [read_text(name, "output") for name in read_list(table["outputs"], "outputs")]
    constants = _read_constants(table["constants"], values, tensors)
    if len({*inputs, *constants}) != len(inputs) + len(constants):
        raise DocumentError("has an input or constant twice")
    if missing := {*inputs} - {*values}:
        raise DocumentError(f"has an input {min(missing)!r} without a type and shape")
    there, memory = {*inputs, *constants}, memory_limit()
    operators: list[Operator] = []
    for number, entry in enumerate(read_list(table["operators"], "operators")):
        try:
            operator = _read_operator(entry, tensors)
            check_order(operator, values, there)
            check_shapes(operator, values, memory)
        except (DocumentError, GraphError, ShapeError, RuntimeProgramError) as error:
            raise DocumentError(f"has a wrong operator, number {number}: {error}") from None
        there.update(writes(operator))
        operators.append(operator)
    if odd := {*values} ^ there:
        raise DocumentError(f"has a value that is unknown, or that nothing makes: {min(odd)!r}")
    if missing := {*outputs} - there:
        raise DocumentError(f"returns {min(missing)!r}, which nothing makes")
    dynamic = read_flag(table["free"], "whether the batch is dynamic")
    return Graph(values, operators, inputs, outputs, constants, dynamic)


def _read_values(listed: object) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for entry in read_list(listed, "values"):
        match entry:
            case [str(name), str(dtype), list(shape)] if dtype in _DTYPES and len(shape) <= _MAX_DIMENSIONS:
                sizes = tuple(read_integer(size, f"size of {name}", least=0) for size in shape)
            case _:
                raise DocumentError(f"has {shorten(entry)} for a value, not its name, type and shape")
        if name in values:
            raise DocumentError(f"has the value {name!r} twice")
        if math.prod(max(size, 1) for size in sizes) >= 1 << 60:
            raise DocumentError(f"has {name!r} of the shape {list(sizes)}, which no memory holds")
        values[name] = Value(name, sizes, _DTYPES[dtype])
    return values


def _read_constants(
    table: object, values: Mapping[str, Value], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    if not isinstance(table, dict):
        raise DocumentError(f"has {shorten(table)} for its constants")
    constants = {}
    for name, stored in table.items():
        tensor = read_tensor(stored, tensors)
        value = values.get(name)
        if value is None or (value.shape, value.dtype) != (tuple(tensor.shape), tensor.dtype):
            raise DocumentError(
                f"has a constant {name!r} of another shape or type than its tensor {stored!r}"
            )
        constants[name] = tensor
    return constants


def _read_operator(data: object, tensors: Mapping[str, Tensor]) -> Operator:
    if not isinstance(data, dict):
        raise DocumentError(f"{shorten(data)} is not an operator")
    table = dict(data)
    kind = table.pop("op", None)
    entry = next((entry for entry in OPERATORS.values() if entry.name == kind), None)
    if entry is None:
        raise DocumentError(f"its kind is {shorten(kind)}")
    return entry.decode(table, tensors)
