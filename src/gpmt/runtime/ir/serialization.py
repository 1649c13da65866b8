"""A graph as a JSON document and tensors, and back; what is read is checked, since anyone may have written it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.errors import RuntimeProgramError
from gpmt.formats.sparse.header import DTYPES
from gpmt.runtime.ir.graph import (
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    Fallback,
    Floats,
    GlobalMean,
    Graph,
    Linear,
    Multiply,
    Operator,
    Pool,
    Reshape,
    Slice,
    Upsample,
    Value,
    reads,
    writes,
)
from gpmt.runtime.ir.shapes import ShapeError, check_shapes
from gpmt.runtime.ir.torch_calls import fallback, restore_fallback
from gpmt.system import memory_limit

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Conv, Linear, Pool, GlobalMean, Affine, Add, Multiply, Concat, Slice, Upsample, Reshape)
}
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}
_MAX_SIZE = 1 << 40  # of a dimension, stride, ...
_MAX_DIMENSIONS = 64
_SINGLE = float(np.finfo(np.float32).max)


class DocumentError(ValueError):
    """A document that is not valid; the reader of the file adds its name."""


def write(graph: Graph) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a graph as what JSON can hold, and its tensors by the names that it has for them.

    Weights have the names that they have in the network. Raises `DocumentError` where an operator on PyTorch has no
    stored form.
    """
    tensors: dict[str, Tensor] = {}

    def put(data: Tensor, wanted: str) -> str:
        """Return the name that a tensor gets; a layer that the network uses twice has its weights once."""
        name, number = wanted, 1
        while name in tensors and not _same(tensors[name], data):
            number += 1
            name = f"{wanted}_{number}"
        tensors[name] = data
        return name

    constants = {name: put(data.detach(), name) for name, data in graph.constants.items()}
    operators = []
    for operator in graph.operators:
        if isinstance(operator, Fallback):
            if operator.stored is None:
                raise DocumentError(
                    f"cannot hold {operator.target}, which stays on PyTorch with arguments that are no plain data"
                )
            operators.append({"op": "PyTorch", "reason": operator.reason, "calls": operator.stored})
            continue
        table: dict[str, Any] = {"op": type(operator).__name__}
        for field in fields(operator):
            value = getattr(operator, field.name)
            if isinstance(value, np.ndarray):
                data = torch.from_numpy(np.require(value, requirements=["C", "W"]))
                table[field.name] = put(data, _tensor_name(operator, field.name))
            elif field.default is MISSING or value != field.default:
                table[field.name] = _plain(value)
        operators.append(table)
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

    What operators on PyTorch make is checked when they run, as in every program. Raises `DocumentError`, saying what
    is wrong, where the document is not valid.
    """
    table = _table(document, "graph", ("values", "operators", "inputs", "outputs", "constants", "free"))
    values = _values(table["values"])
    inputs = [_text(name, "input") for name in _list(table["inputs"], "inputs")]
    outputs = [_text(name, "output") for name in _list(table["outputs"], "outputs")]
    constants = _constants(table["constants"], values, tensors)
    if len({*inputs, *constants}) != len(inputs) + len(constants):
        raise DocumentError("has an input or constant twice")
    if missing := {*inputs} - {*values}:
        raise DocumentError(f"has an input {min(missing)!r} without a type and shape")
    there, memory = {*inputs, *constants}, memory_limit()
    operators: list[Operator] = []
    for number, entry in enumerate(_list(table["operators"], "operators")):
        try:
            operator = _operator(entry, values, tensors)
            _check_order(operator, values, there)
            if not isinstance(operator, Fallback):
                check_shapes(operator, values, memory)
        except (DocumentError, ShapeError, RuntimeProgramError) as error:
            raise DocumentError(f"has a wrong operator, number {number}: {error}") from None
        there.update(writes(operator))
        operators.append(operator)
    if odd := {*values} ^ there:
        raise DocumentError(f"has a value that is unknown, or that nothing makes: {min(odd)!r}")
    if missing := {*outputs} - there:
        raise DocumentError(f"returns {min(missing)!r}, which nothing makes")
    if not isinstance(table["free"], bool):
        raise DocumentError(
            f"has {_short(table['free'])} for whether the batch is dynamic, not true or false"
        )
    return Graph(values, operators, inputs, outputs, constants, table["free"])


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether all bits are the same."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _tensor_name(operator: Operator, field: str) -> str:
    """Name a tensor of an operator as its layer's tensors are named in the network."""
    name = getattr(operator, "name", "")
    if name and field == "weight":
        return str(name)
    layer = name.rpartition(".")[0] if name else writes(operator)[0]
    return f"{layer}.{field}" if layer else field


def _plain(value: Any) -> Any:
    match value:
        case Activation(kind=kind, low=low, high=high):
            bounds = [number if math.isfinite(number) else str(number) for number in map(float, (low, high))]
            return [kind, *bounds] if kind == "clamp" else [kind]
        case tuple():
            return list(value)
        case _:
            return value


# Reading. Every function names what it reads in its error.


def _values(listed: object) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for entry in _list(listed, "values"):
        match entry:
            case [str(name), str(dtype), list(shape)] if dtype in _DTYPES and len(shape) <= _MAX_DIMENSIONS:
                sizes = tuple(_count(size, f"size of {name}", least=0) for size in shape)
            case _:
                raise DocumentError(f"has {_short(entry)} for a value, not its name, type and shape")
        if name in values:
            raise DocumentError(f"has the value {name!r} twice")
        if math.prod(max(size, 1) for size in sizes) >= 1 << 60:
            raise DocumentError(f"has {name!r} of the shape {list(sizes)}, which no memory holds")
        values[name] = Value(name, sizes, _DTYPES[dtype])
    return values


def _constants(
    table: object, values: Mapping[str, Value], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    if not isinstance(table, dict):
        raise DocumentError(f"has {_short(table)} for its constants")
    constants = {}
    for name, stored in table.items():
        tensor = _tensor(stored, tensors)
        value = values.get(name)
        if value is None or (value.shape, value.dtype) != (tuple(tensor.shape), tensor.dtype):
            raise DocumentError(
                f"has a constant {name!r} of another shape or type than its tensor {stored!r}"
            )
        constants[name] = tensor
    return constants


def _operator(entry: object, values: Mapping[str, Value], tensors: Mapping[str, Tensor]) -> Operator:
    if not isinstance(entry, dict):
        raise DocumentError(f"{_short(entry)} is no operator")
    found = dict(entry)
    kind = found.pop("op", None)
    if kind == "PyTorch":
        table = _table(found, "step on PyTorch", ("reason", "calls"))
        run = restore_fallback(table["calls"])
        return fallback(run.steps, run.inputs, run.outputs, _text(table["reason"], "reason"))
    if not isinstance(kind, str) or kind not in _KINDS:
        raise DocumentError(f"its kind is {_short(kind)}")
    known = {field.name: field for field in fields(_KINDS[kind])}
    if odd := found.keys() - known.keys():
        raise DocumentError(f"{kind} has no {min(map(str, odd))!r}")
    arguments = {}
    for name, field in known.items():
        if name in found:
            read_field = _READERS[name]
            arguments[name] = (
                _floats(found[name], tensors) if read_field is None else read_field(found[name], name)
            )
        elif field.default is MISSING:
            raise DocumentError(f"{kind} lacks its {name}")
    operator: Operator = _KINDS[kind](**arguments)
    return operator


def _check_order(operator: Operator, values: Mapping[str, Value], there: set[str]) -> None:
    for name in reads(operator):
        if name not in there:
            raise DocumentError(f"it reads {name!r} before that is made")
    made = writes(operator)
    for name in made:
        if name not in values or name in there or made.count(name) > 1:
            raise DocumentError(f"it makes {name!r}, which is unknown or there already")


def _table(value: object, what: str, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != {*keys}:
        raise DocumentError(f"has a {what} that does not consist of {', '.join(keys)}")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise DocumentError(f"has {_short(value)} for its {what}, not a list")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DocumentError(f"has {_short(value)} for a {what}, not a text")
    return value


def _count(value: object, what: str, least: int = 1) -> int:
    if type(value) is not int or not least <= value < _MAX_SIZE:
        raise DocumentError(f"has {_short(value)} for a {what}")
    return value


def _counts(number: int, least: int) -> Callable[[object, str], tuple[int, ...]]:
    def convert(value: object, what: str) -> tuple[int, ...]:
        if not isinstance(value, list) or len(value) != number:
            raise DocumentError(f"has {_short(value)} for a {what}, not {number} numbers")
        return tuple(_count(part, what, least) for part in value)

    return convert


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise DocumentError(f"has {_short(value)} for {what}, not true or false")
    return value


def _optional_text(value: object, what: str) -> str | None:
    return None if value is None else _text(value, what)


def _names(value: object, what: str) -> tuple[str, ...]:
    names = tuple(_text(name, what) for name in _list(value, what))
    if not names:
        raise DocumentError(f"has no {what}")
    return names


def _activation(value: object, what: str) -> Activation:
    match value:
        case ["clamp", low, high]:
            bounds = _bound(low, "-inf"), _bound(high, "inf")
            if bounds[0] <= bounds[1]:
                return Activation("clamp", *bounds)
        case ["none" | "silu" | "hardswish" | "sigmoid" as kind]:
            return Activation(kind)
    raise DocumentError(f"has {_short(value)} for an {what}")


def _bound(value: object, infinite: str) -> float:
    if value == infinite:
        return float(infinite)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _SINGLE:
        return float(value)
    raise DocumentError(f"has {_short(value)} for a bound")


def _pooling(value: object, what: str) -> str:
    if value not in ("max", "mean"):
        raise DocumentError(f"has {_short(value)} for a {what} of pooling")
    return str(value)


def _tensor(name: object, tensors: Mapping[str, Tensor]) -> Tensor:
    if not isinstance(name, str) or name not in tensors:
        raise DocumentError(f"needs the tensor {_short(name)}, which is not there")
    return tensors[name]


def _floats(name: object, tensors: Mapping[str, Tensor]) -> Floats:
    tensor = _tensor(name, tensors)
    if tensor.dtype != torch.float32:
        raise DocumentError(f"needs the tensor {name!r} in float32, not {tensor.dtype}")
    return tensor.contiguous().numpy()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


# How the fields of operators are read, by their names; those that are tensors have None.
_READERS: dict[str, Callable[[object, str], Any] | None] = {
    **dict.fromkeys(("input", "output", "left", "right", "name"), _text),
    **dict.fromkeys(("weight", "bias", "scale", "shift"), None),
    **dict.fromkeys(("stride", "dilation", "kernel", "factor"), _counts(2, 1)),
    "activation": _activation,
    "count_padding": _flag,
    "first": lambda value, what: _count(value, what, least=0),
    "groups": _count,
    "kind": _pooling,
    "padding": _counts(4, 0),
    "parts": _names,
    "residual": _optional_text,
}
