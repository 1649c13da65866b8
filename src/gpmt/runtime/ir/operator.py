"""The table of operators: for each type, what its fields are and which shape it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.ir.document import DocumentError
from gpmt.runtime.ir.fields import FieldKind, read_array
from gpmt.runtime.ir.values import Shape


@dataclass(frozen=True, eq=False)
class Operator:
    """Base of all operators: frozen dataclasses that refer to values by name. Each type has an entry in the table."""


ShapeRule = Callable[[Any, Sequence[Shape], Shape, int], Shape]
"""Returns the shape that an operator makes, or raises `ShapeError`.

Its arguments are the operator, the shapes of its inputs, the shape of its output as the graph has it (to be returned
where an operator can make several), and the bytes of memory that a value may take.
"""


@dataclass(frozen=True)
class OperatorEntry:
    """What the runtime knows about one type of operator.

    Attributes:
        type: the dataclass.
        name: of the type in a document.
        fields: the kind of each field, in the order of the dataclass.
        shape: None where shapes are only known when the operator runs; it may then read and write any dtype.
        reads_images: whether all inputs must be [batch, channels, height, width].
    """

    type: type[Operator]
    name: str
    fields: Mapping[str, FieldKind]
    shape: ShapeRule | None
    reads_images: bool

    def encode(self, operator: Operator, put: Callable[[Tensor, str], str]) -> dict[str, Any]:
        """Return an operator as plain data; `put` takes a tensor and a name for it, and returns its final name."""
        table: dict[str, Any] = {"op": self.name}
        for field in dataclass_fields(operator):
            kind, value = self.fields[field.name], getattr(operator, field.name)
            if kind.array:
                if value is None:
                    continue
                data = torch.from_numpy(np.require(value, requirements=["C", "W"]))
                table[field.name] = put(data, _tensor_name(operator, field.name))
            elif field.default is MISSING or value != field.default:
                table[field.name] = kind.encode(value)
        return table

    def decode(self, table: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Operator:
        """Return the operator that `encode` described, without `op`; raise `DocumentError` where a field is wrong."""
        known = {field.name: field for field in dataclass_fields(self.type)}
        if unknown := table.keys() - known.keys():
            raise DocumentError(f"{self.name} has no {min(map(str, unknown))!r}")
        arguments = {}
        for name, field in known.items():
            if name in table:
                kind, value = self.fields[name], table[name]
                arguments[name] = read_array(value, tensors) if kind.array else kind.decode(value, name)
            elif field.default is MISSING:
                raise DocumentError(f"{self.name} lacks its {name}")
        return self.type(**arguments)


OPERATORS: dict[type[Operator], OperatorEntry] = {}
"""The table. `define` fills it, next to each operator."""


def define(
    type: type[Operator],
    *,
    fields: Mapping[str, FieldKind],
    shape: ShapeRule | None,
    reads_images: bool = True,
    name: str = "",
) -> None:
    """Add a type of operator to the table.

    Args:
        type: a frozen dataclass.
        fields: the kind of each of its fields.
        shape: the rule for the shape of its output.
        reads_images: whether all its inputs must be images.
        name: in a document; by default that of the type.

    Raises:
        TypeError: a field without a kind, a kind without a field, or a name that another type has.
    """
    name = name or type.__name__
    known = [field.name for field in dataclass_fields(type)]
    if missing := [field for field in known if field not in fields]:
        raise TypeError(f"{name} has a field {missing[0]!r} without a kind; add it to its entry")
    if unknown := [field for field in fields if field not in known]:
        raise TypeError(f"{name} has no field {unknown[0]!r}; remove it from its entry")
    if any(name == entry.name and type is not entry.type for entry in OPERATORS.values()):
        raise TypeError(f"two operators are called {name!r} in documents; rename one")
    kinds = {field: fields[field] for field in known}
    OPERATORS[type] = OperatorEntry(type, name, kinds, shape, reads_images)


def entry_of(operator: Operator) -> OperatorEntry:
    """Return the entry of an operator's type; raise `TypeError` where there is none."""
    found = OPERATORS.get(type(operator))
    if found is None:
        raise TypeError(f"{type(operator).__name__} is not in the table of operators; call define for it")
    return found


def reads(operator: Operator) -> tuple[str, ...]:
    """Return the names of the values that an operator reads."""
    kinds = entry_of(operator).fields
    return tuple(name for field, kind in kinds.items() for name in kind.reads(getattr(operator, field)))


def writes(operator: Operator) -> tuple[str, ...]:
    """Return the names of the values that an operator writes."""
    kinds = entry_of(operator).fields
    return tuple(name for field, kind in kinds.items() for name in kind.writes(getattr(operator, field)))


def renamed(operator: Operator, names: Mapping[str, str]) -> Operator:
    """Return an operator that reads other values, by their names so far."""
    if not any(name in names for name in reads(operator)):
        return operator
    kinds = entry_of(operator).fields
    changed: dict[str, Any] = {
        field: kind.rename(getattr(operator, field), names) for field, kind in kinds.items()
    }
    return replace(operator, **changed)


def with_own_arrays(operator: Operator) -> Operator:
    """Return an operator whose arrays are not views of other memory."""
    kinds = entry_of(operator).fields
    arrays = {field: getattr(operator, field) for field, kind in kinds.items() if kind.array}
    copies: dict[str, Any] = {
        field: array.copy() for field, array in arrays.items() if array is not None and array.base is not None
    }
    return replace(operator, **copies)


def _tensor_name(operator: Operator, field: str) -> str:
    """Name an array as the network names the tensors of its layer: an operator's `name` is that of its weight."""
    weight = str(getattr(operator, "name", ""))
    if weight and field == "weight":
        return weight
    layer = weight.rpartition(".")[0] if weight else writes(operator)[0]
    return f"{layer}.{field}" if layer else field
