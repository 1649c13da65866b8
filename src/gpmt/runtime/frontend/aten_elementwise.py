"""ATen's activations, sums, differences, products and quotients."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.frontend.aten_tokens import place_tokens
from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.ir.activation import ATEN_ACTIVATIONS, IDENTITY, Activation
from gpmt.runtime.ir.operators import Add, Affine, Multiply
from gpmt.runtime.ir.values import Floats

_MAX_FLOAT = float(np.finfo(np.float32).max)
_HARDSIGMOID = 1 / 6, 1 / 2, Activation("clamp", 0.0, 1.0)


def _activation(aten_name: str, builder: Builder, arguments: Arguments, result: Tensor) -> None:
    found = ATEN_ACTIVATIONS[aten_name](arguments)
    if found is None:
        raise Unsupported("there is no kernel for its bounds")
    source = arguments["self"]
    _add_affine(builder, _vectors_or_image(builder, source), source, result, 1.0, 0.0, found)


for _aten_name in ATEN_ACTIVATIONS:
    handles(_aten_name)(partial(_activation, _aten_name))


@handles("hardsigmoid")
def _hardsigmoid(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source = arguments["self"]
    _add_affine(builder, _vectors_or_image(builder, source), source, result, *_HARDSIGMOID)


def _vectors_or_image(builder: Builder, source: Tensor) -> str:
    if source.ndim < 2:
        raise Unsupported(f"its input has {source.ndim} dimensions, not 2 or more")
    return builder.float_value(source)


def _add_affine(
    builder: Builder,
    name: str,
    source: Tensor,
    result: Tensor,
    scale: float | Floats,
    shift: float | Floats,
    then: Activation = IDENTITY,
) -> None:
    axis = 1 if source.ndim == 4 else -1
    scales, shifts = (np.full(source.shape[axis], part, np.float32) for part in (scale, shift))
    output = builder.new_result(result, "affine" if then == IDENTITY else then.kind)
    builder.add(Affine(name, output, scales, shifts, then, axis))


@handles("add")
def _add(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    _add_sum(builder, arguments, result, sign=1)


@handles("sub", "subtract")
def _subtract(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    _add_sum(builder, arguments, result, sign=-1)


@handles("rsub")
def _subtract_from(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    if arguments["alpha"] != 1:
        raise Unsupported("one side is scaled")
    _add_sum(builder, {"self": arguments["other"], "other": arguments["self"]}, result, sign=-1)


def _add_sum(builder: Builder, arguments: Arguments, result: Tensor, *, sign: int) -> None:
    left, right, alpha = arguments["self"], arguments["other"], arguments.get("alpha", 1)
    if _is_per_channel(builder, right, result):
        shift = sign * alpha * _channel_values(builder, right)
        _add_affine(builder, _image_of(builder, left, result), left, result, 1.0, shift)
    elif _is_per_channel(builder, left, result) and alpha == 1:
        shift = _channel_values(builder, left)
        _add_affine(builder, _image_of(builder, right, result), right, result, float(sign), shift)
    elif alpha != 1 or sign != 1:
        raise Unsupported("one side is scaled")
    elif place_tokens(builder, left, right, result) or place_tokens(builder, right, left, result):
        pass
    else:
        names = _vectors_or_image(builder, left), _vectors_or_image(builder, right)
        if left.shape != right.shape:
            raise Unsupported("its inputs have different shapes")
        builder.add(Add(*names, builder.new_result(result, "add")))


@handles("mul", "multiply")
def _multiply(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    for source, factor in ((arguments["self"], arguments["other"]), (arguments["other"], arguments["self"])):
        if _is_per_channel(builder, factor, result):
            scale = _channel_values(builder, factor)
            _add_affine(builder, _image_of(builder, source, result), source, result, scale, 0.0)
            return
    sides = arguments["self"], arguments["other"]
    names = [(side.shape, _vectors_or_image(builder, side)) for side in sides if isinstance(side, Tensor)]
    for (shape, left), (factor, right) in (names, names[::-1]):
        gate = len(shape) == 4 and factor == (*shape[:2], 1, 1)
        if shape == result.shape and (factor == shape or gate):
            builder.add(Multiply(left, right, builder.new_result(result, "mul")))
            return
    raise Unsupported("its inputs have different shapes")


@handles("div", "divide", "true_divide")
def _divide(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    if arguments.get("rounding_mode") is not None or not _is_per_channel(builder, arguments["other"], result):
        raise Unsupported("there is no kernel for it")
    divisor = _channel_values(builder, arguments["other"]).astype(np.float64)
    with np.errstate(divide="ignore"):
        scale = 1 / divisor
    if np.any(np.abs(scale[np.isfinite(scale)]) > _MAX_FLOAT):
        raise Unsupported("the inverse of its divisor is too large")
    _add_affine(builder, _image_of(builder, arguments["self"], result), arguments["self"], result, scale, 0.0)


def _image_of(builder: Builder, source: Any, result: Tensor) -> str:
    if not isinstance(source, Tensor) or source.shape != result.shape:
        raise Unsupported("its input is repeated")
    return _vectors_or_image(builder, source)


def _is_per_channel(builder: Builder, factor: object, result: Tensor) -> bool:
    """Whether this is a number, or a constant with one element for each channel of an image or each feature."""
    if result.ndim < 2 or result.dtype != torch.float32:
        return False
    if isinstance(factor, int | float):
        return True
    data = builder.constant_data(factor)
    if data is None or not data.dtype.is_floating_point or data.ndim > result.ndim:
        return False
    others = [1] * (result.ndim - data.ndim) + list(data.shape)
    del others[1 if result.ndim == 4 else -1]
    return all(size == 1 for size in others)


def _channel_values(builder: Builder, factor: Any) -> Any:
    if isinstance(factor, int | float):
        return np.float64(factor)
    data = builder.constant_data(factor)
    assert data is not None
    return data.double().reshape(-1).numpy()
