"""Activations, and other functions of one element."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported
from gpmt.runtime.onnx_frontend.composites import GELU
from gpmt.runtime.onnx_frontend.registry import OPERATORS, Entry, operator

_SIXTH = 1 / 6
_PLAIN: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "Abs": ((6, 13), torch.abs),
    "Acos": ((7, 22), torch.acos),
    "Acosh": ((9, 22), torch.acosh),
    "Asin": ((7, 22), torch.asin),
    "Asinh": ((9, 22), torch.asinh),
    "Atan": ((7, 22), torch.atan),
    "Atanh": ((9, 22), torch.atanh),
    "Ceil": ((6, 13), torch.ceil),
    "Cos": ((7, 22), torch.cos),
    "Cosh": ((9, 22), torch.cosh),
    "Erf": ((9, 13), torch.erf),
    "Exp": ((6, 13), torch.exp),
    "Floor": ((6, 13), torch.floor),
    "HardSwish": ((14, 22), F.hardswish),
    "IsNaN": ((9, 13, 20), torch.isnan),
    "Log": ((6, 13), torch.log),
    "Mish": ((18, 22), F.mish),
    "Neg": ((6, 13), torch.neg),
    "Not": ((1,), torch.logical_not),
    "Reciprocal": ((6, 13), torch.reciprocal),
    "Relu": ((6, 13, 14), F.relu),
    "Round": ((11, 22), torch.round),
    "Sigmoid": ((6, 13), torch.sigmoid),
    "Sign": ((9, 13), torch.sign),
    "Sin": ((7, 22), torch.sin),
    "Sinh": ((9, 22), torch.sinh),
    "Softplus": ((1, 22), F.softplus),
    "Softsign": ((1, 22), F.softsign),
    "Sqrt": ((6, 13), torch.sqrt),
    "Tan": ((7, 22), torch.tan),
    "Tanh": ((6, 13), torch.tanh),
}


def _of_one_tensor(function: Callable[[Tensor], Tensor]) -> Callable[[Call], Tensor]:
    return lambda call: function(call.tensor(0))


for _name, (_versions, _function) in _PLAIN.items():
    OPERATORS[_name] = Entry(_of_one_tensor(_function), frozenset(_versions))


@operator("Clip", 6, 11, 12, 13)
def _clip(call: Call) -> Tensor:
    source = call.tensor(0)
    if call.version < 11:
        low, high = call.real("min", -math.inf), call.real("max", math.inf)
        return _clamped(source, low, high)
    bounds = [call.optional(1), call.optional(2)]
    if all(bound is None or call.is_known(1 + place) for place, bound in enumerate(bounds)):
        low, high = (
            end if bound is None else call.number(1 + place)
            for place, (bound, end) in enumerate(zip(bounds, (-math.inf, math.inf), strict=True))
        )
        return _clamped(source, low, high)
    return torch.clamp(source, min=bounds[0], max=bounds[1])


def _clamped(source: Tensor, low: float, high: float) -> Tensor:
    if low == 0 and high == math.inf and source.is_floating_point():
        return F.relu(source)
    if low == -math.inf and high == math.inf:
        return source
    if high < low:  # ONNX takes the upper bound then, as PyTorch does
        low = high
    return torch.clamp(source, None if low == -math.inf else low, None if high == math.inf else high)


@operator("LeakyRelu", 6, 16)
def _leaky_relu(call: Call) -> Tensor:
    return F.leaky_relu(call.tensor(0), call.real("alpha", 0.01))


@operator("PRelu", 7, 9, 16)
def _prelu(call: Call) -> Tensor:
    source, slope = call.tensor(0), call.tensor(1)
    shape = (1,) * (source.ndim - slope.ndim) + tuple(slope.shape)
    if source.ndim > 1 and slope.numel() in (1, source.shape[1]) and math.prod(shape[2:]) == 1 == shape[0]:
        return F.prelu(source, slope.reshape(-1))
    return torch.where(source < 0, source * slope, source)


@operator("HardSigmoid", 6, 22)
def _hard_sigmoid(call: Call) -> Tensor:
    alpha, beta = call.real("alpha", 0.2), call.real("beta", 0.5)
    if abs(alpha - _SIXTH) < 1e-7 and beta == 0.5:
        return F.hardsigmoid(call.tensor(0))
    return torch.clamp(call.tensor(0) * alpha + beta, 0.0, 1.0)


@operator("Elu", 6, 22)
def _elu(call: Call) -> Tensor:
    return F.elu(call.tensor(0), call.real("alpha", 1.0))


@operator("Celu", 12, 28)
def _celu(call: Call) -> Tensor:
    return F.celu(call.tensor(0), call.real("alpha", 1.0))


@operator("Selu", 6, 22)
def _selu(call: Call) -> Tensor:
    alpha, gamma = call.real("alpha", 1.6732632423543772), call.real("gamma", 1.0507009873554805)
    return gamma * F.elu(call.tensor(0), alpha)


@operator("ThresholdedRelu", 10, 22)
def _thresholded_relu(call: Call) -> Tensor:
    return F.threshold(call.tensor(0), call.real("alpha", 1.0), 0.0)


@operator(GELU, 0)
@operator("Gelu", 20)
def _gelu(call: Call) -> Tensor:
    form = call.text("approximate", "none")
    if form not in ("none", "tanh"):
        raise NotSupported(f"its attribute approximate is {form!r}")
    return F.gelu(call.tensor(0), approximate=form)


@operator("Swish", 24)
def _swish(call: Call) -> Tensor:
    alpha = call.real("alpha", 1.0)
    source = call.tensor(0)
    return F.silu(source) if alpha == 1 else source * torch.sigmoid(source * alpha)


@operator("Softmax", 1, 11, 13)
def _softmax(call: Call) -> Tensor:
    return _over_axis(call, torch.softmax)


@operator("LogSoftmax", 1, 11, 13)
def _log_softmax(call: Call) -> Tensor:
    return _over_axis(call, torch.log_softmax)


def _over_axis(call: Call, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply a function over an axis; before opset 13, over that and all axes after it."""
    source = call.tensor(0)
    axis = call.axis(call.integer("axis", -1 if call.version >= 13 else 1), source.ndim)
    if call.version >= 13 or math.prod(source.shape[axis + 1 :]) == 1:
        return function(source, axis)
    return function(source.flatten(axis), axis).reshape(source.shape)
