"""ATen's layer norm, RMS norm and group norm."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.ir.operators import GroupNorm, LayerNorm
from gpmt.runtime.ir.values import Floats


@handles("layer_norm", "native_layer_norm")
def _layer_norm(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    _add_layer_norm(builder, arguments, result, float(arguments["eps"]), centred=True)


@handles("rms_norm")
def _rms_norm(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    epsilon = arguments["eps"]
    epsilon = torch.finfo(torch.float32).eps if epsilon is None else float(epsilon)
    _add_layer_norm(builder, arguments, result, epsilon, centred=False)


def _add_layer_norm(
    builder: Builder, arguments: Arguments, result: Tensor, epsilon: float, *, centred: bool
) -> None:
    source = arguments["input"]
    pixels = source.ndim == 4 and tuple(source.shape[2:]) == (1, 1)
    if source.ndim < 2 or pixels or len(arguments["normalized_shape"]) != 1:
        raise Unsupported("it is not over the last dimension of several")
    if epsilon < 0:
        raise Unsupported("its epsilon is negative")
    name = builder.float_value(source)
    weight, bias = (_vector(builder, arguments, key, source.shape[-1]) for key in ("weight", "bias"))
    output = builder.new_result(result, "layer_norm")
    builder.add(LayerNorm(name, output, weight, bias, epsilon, centred=centred))


@handles("group_norm")
def _group_norm(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source = arguments["input"]
    name = builder.image_value(source)
    weight, bias = (_vector(builder, arguments, key, source.shape[1]) for key in ("weight", "bias"))
    output, groups = builder.new_result(result, "group_norm"), int(arguments["num_groups"])
    builder.add(GroupNorm(name, output, weight, bias, float(arguments["eps"]), groups))


def _vector(builder: Builder, arguments: Arguments, key: str, features: int) -> Floats:
    if arguments.get(key) is None:
        return np.full(features, float(key == "weight"), np.float32)
    return builder.constant_array(arguments[key], key)
