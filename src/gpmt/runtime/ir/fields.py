"""Kinds of fields of operators: which values of the graph they name, and how a document holds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.ir.document import (
    DocumentError,
    read_flag,
    read_integer,
    read_list,
    read_text,
    shorten,
)
from gpmt.runtime.ir.values import Floats

Names = Mapping[str, str]
_MAX_FLOAT = float(np.finfo(np.float32).max)


def _same(value: Any) -> Any:
    return value


def _no_names(value: Any) -> tuple[str, ...]:
    return ()


def _not_renamed(value: Any, names: Names) -> Any:
    return value


@dataclass(frozen=True)
class FieldKind:
    """What a field of an operator holds.

    Attributes:
        decode: makes the field from plain data and checks it; gets the data and the field's name. The data of an
            array is the name of its tensor, which `read_array` looks up.
        encode: makes plain data of the field.
        reads: returns the values that the field names as inputs.
        writes: returns the values that the field names as outputs.
        rename: returns the field with other names of inputs.
        array: whether it is a float32 array, which a file holds as a tensor, or None, which is left out.
        dtypes: of the values that the field names.
    """

    decode: Callable[[object, str], Any]
    encode: Callable[[Any], Any] = _same
    reads: Callable[[Any], tuple[str, ...]] = _no_names
    writes: Callable[[Any], tuple[str, ...]] = _no_names
    rename: Callable[[Any, Names], Any] = _not_renamed
    array: bool = False
    dtypes: tuple[torch.dtype, ...] = (torch.float32,)


def _one(name: str) -> tuple[str, ...]:
    return (name,)


def _read_optional_text(value: object, what: str) -> str | None:
    return None if value is None else read_text(value, what)


def _read_names(value: object, what: str) -> tuple[str, ...]:
    names = tuple(read_text(name, what) for name in read_list(value, what))
    if not names:
        raise DocumentError(f"has no {what}")
    return names


def _read_index(value: object, what: str) -> int:
    return read_integer(value, what, least=0)


def _integers(count: int, least: int) -> FieldKind:
    def decode(value: object, what: str) -> tuple[int, ...]:
        if not isinstance(value, list) or len(value) != count:
            raise DocumentError(f"has {shorten(value)} for a {what}, not {count} numbers")
        return tuple(read_integer(part, what, least) for part in value)

    return FieldKind(decode, list)


def _read_activation(value: object, what: str) -> Activation:
    match value:
        case ["clamp", low, high]:
            bounds = _read_bound(low, "-inf"), _read_bound(high, "inf")
            if bounds[0] <= bounds[1]:
                return Activation("clamp", *bounds)
        case ["leaky_relu", int() | float() as slope] if abs(slope) <= _MAX_FLOAT:
            return Activation("leaky_relu", float(slope))
        case ["none" | "silu" | "hardswish" | "sigmoid" | "gelu" | "gelu_tanh" | "tanh" as kind]:
            return Activation(kind)
    raise DocumentError(f"has {shorten(value)} for an {what}")


def _read_bound(value: object, infinite: str) -> float:
    if value == infinite:
        return float(infinite)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_FLOAT:
        return float(value)
    raise DocumentError(f"has {shorten(value)} for a bound")


def _encode_activation(activation: Activation) -> list[Any]:
    if activation.kind == "leaky_relu":
        return [activation.kind, float(activation.low)]
    if activation.kind != "clamp":
        return [activation.kind]
    bounds = float(activation.low), float(activation.high)
    return [activation.kind, *(bound if math.isfinite(bound) else str(bound) for bound in bounds)]


def _read_number(value: object, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MAX_FLOAT:
        return float(value)
    raise DocumentError(f"has {shorten(value)} for a {what}")


def _read_feature_axis(value: object, what: str) -> int:
    if value not in (1, -1) or isinstance(value, bool | float):
        raise DocumentError(f"has {shorten(value)} for an {what}, not 1 or -1")
    return int(str(value))


def _read_order(value: object, what: str) -> tuple[int, ...]:
    return tuple(read_integer(axis, what, least=0) for axis in read_list(value, what))


INPUT = FieldKind(read_text, reads=_one, rename=lambda name, names: names.get(name, name))
INPUTS = FieldKind(
    _read_names,
    list,
    reads=tuple,
    rename=lambda inputs, names: tuple(names.get(name, name) for name in inputs),
)
OPTIONAL_INPUT = FieldKind(
    _read_optional_text,
    reads=lambda name: () if name is None else (name,),
    rename=lambda name, names: None if name is None else names.get(name, name),
)
INTEGER_INPUT = replace(INPUT, dtypes=(torch.int64, torch.int32))
OUTPUT = FieldKind(read_text, writes=_one)
ARRAY = FieldKind(read_text, array=True)
OPTIONAL_ARRAY = ARRAY
TEXT = FieldKind(read_text)
FLAG = FieldKind(read_flag)
COUNT = FieldKind(read_integer)
INDEX = FieldKind(_read_index)
INDEX_TRIPLE = _integers(3, least=0)
NUMBER = FieldKind(_read_number)
FEATURE_AXIS = FieldKind(_read_feature_axis)
ORDER = FieldKind(_read_order, list)
PAIR = _integers(2, least=1)
PADDING = _integers(4, least=0)
ACTIVATION = FieldKind(_read_activation, _encode_activation)


def read_tensor(name: object, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the tensor of a file that a document names."""
    if not isinstance(name, str) or name not in tensors:
        raise DocumentError(f"needs the tensor {shorten(name)}, which is not there")
    return tensors[name]


def read_array(name: object, tensors: Mapping[str, Tensor]) -> Floats:
    """Return the array that a document names."""
    tensor = read_tensor(name, tensors)
    if tensor.dtype != torch.float32:
        raise DocumentError(f"needs the tensor {name!r} in float32, not {tensor.dtype}")
    return tensor.contiguous().numpy()
