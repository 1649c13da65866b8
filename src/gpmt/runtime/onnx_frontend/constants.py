"""Tensors that are made, passed on, or of another type."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported, check_size, constant
from gpmt.runtime.onnx_frontend.registry import Result, operator

TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float32,
    11: torch.float32,
    16: torch.float32,
}
"""ONNX's types; all floating numbers of 16, 32 and 64 bits are float32 here."""


@operator("Constant", 1, 9, 11, 12, 13, 19, 21, 23, 24, 25)
def _constant(call: Call) -> Tensor:
    for name in ("value", "sparse_value"):
        value = call.node.attributes.get(name)
        if isinstance(value, Tensor):
            return value
    for name, kind in (
        ("value_float", float),
        ("value_int", int),
        ("value_floats", list),
        ("value_ints", list),
    ):
        value = call.node.attributes.get(name)
        if type(value) is kind:
            return constant(value, torch.float32 if "float" in name else torch.int64)
    raise NotSupported("it holds no numbers")


@operator("ConstantOfShape", 9, 20, 21, 23, 24, 25)
def _constant_of_shape(call: Call) -> Tensor:
    shape = call.integers(0)
    check_size(shape)
    value = call.node.attributes.get("value")
    if value is None:
        return torch.zeros(shape, device="cpu")
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise NotSupported("its value is not one number")
    return value.reshape(()).expand(shape).contiguous()


@operator("Range", 11, 27)
def _range(call: Call) -> Tensor:
    start, limit, step = (call.number(index) for index in range(3))
    if step == 0 or not all(math.isfinite(number) for number in (start, limit, step)):
        raise NotSupported(f"it goes from {start} to {limit} in steps of {step}")
    count = max(math.ceil((limit - start) / step), 0)
    check_size([count])
    places = torch.arange(count, dtype=torch.int64, device="cpu")
    numbers: Tensor = places * step + start
    return numbers.to(call.tensor(0).dtype)


@operator("NonZero", 9, 13, sized_by_values=True)
def _non_zero(call: Call) -> Tensor:
    if not call.is_known(0):
        raise NotSupported("how many elements it finds depends on values of the network's inputs")
    return torch.stack(torch.nonzero(call.tensor(0), as_tuple=True))


@operator("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def _identity(call: Call) -> Tensor:
    return call.tensor(0)


@operator("Dropout", 7, 10, 12, 13, 22)
def _dropout(call: Call) -> Result:
    training = call.optional(2)
    if training is not None and (not call.is_known(2) or call.number(2)):
        raise NotSupported("it is in training mode, not in evaluation mode")
    if call.is_wanted(1):
        raise NotSupported("its mask is read")
    return call.tensor(0)


@operator("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def _cast(call: Call) -> Tensor:
    source, kind = call.tensor(0), call.integer("to", 0)
    if kind not in TYPES:
        raise NotSupported(f"it converts to ONNX's type {kind}")
    return _converted(source, TYPES[kind])


@operator("CastLike", 15, 19, 21, 23, 24, 25)
def _cast_like(call: Call) -> Tensor:
    return _converted(call.tensor(0), call.tensor(1).dtype)


def _converted(source: Tensor, dtype: torch.dtype) -> Tensor:
    if source.dtype == dtype:
        return source
    return source.ne(0) if dtype == torch.bool else source.to(dtype)
