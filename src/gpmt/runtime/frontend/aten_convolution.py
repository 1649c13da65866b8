"""ATen's convolutions, batch-norms and paddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.frontend.padding import add_padding, pair
from gpmt.runtime.ir.operators import Affine, Conv
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.ir.values import Padding, Pair


@handles("conv2d", "convolution", "_convolution")
def _convolution(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    weight = builder.constant_array(arguments["weight"], "weight")
    if arguments.get("transposed", False):
        raise Unsupported("it is transposed")
    source = builder.image_value(arguments["input"])
    if arguments["bias"] is None:
        bias = np.zeros(weight.shape[0], np.float32)
    else:
        bias = builder.constant_array(arguments["bias"], "bias")
    dilation = pair(arguments["dilation"])
    padding = _conv_padding(arguments["padding"], dilation, weight.shape[2:])
    if source in builder.padded:
        inner, around, fill = builder.padded[source]
        if fill == 0:
            source, padding = inner, add_padding(padding, around)
    builder.add(
        Conv(
            source,
            builder.new_result(result, "conv2d"),
            weight,
            bias,
            pair(arguments["stride"]),
            padding,
            dilation,
            int(arguments["groups"]),
            name=builder.state_name(arguments["weight"]),
        )
    )


def _conv_padding(padding: Any, dilation: Pair, kernel: Sequence[int]) -> Padding:
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2
    vertical, horizontal = pair(padding)
    return vertical, horizontal, vertical, horizontal


@handles("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    if arguments.get("training", False):
        raise Unsupported("it is in training mode")
    source = arguments["input"]
    if source.ndim not in (2, 4):
        raise Unsupported(f"its input has {source.ndim} dimensions, not 2 or 4")
    name = builder.float_value(source)
    if arguments["running_mean"] is None or arguments["running_var"] is None:
        raise Unsupported("it has no running statistics")
    mean, var = (
        builder.constant_array(arguments[key], key).astype(np.float64)
        for key in ("running_mean", "running_var")
    )
    scale = 1 / np.sqrt(var + arguments["eps"])
    if arguments["weight"] is not None:
        scale = scale * builder.constant_array(arguments["weight"], "weight")
    shift = -mean * scale
    if arguments["bias"] is not None:
        shift = shift + builder.constant_array(arguments["bias"], "bias")
    output = builder.new_result(result, "batch_norm")
    axis = 1 if source.ndim == 4 else -1
    builder.add(Affine(name, output, scale.astype(np.float32), shift.astype(np.float32), axis=axis))


@handles("pad", "constant_pad_nd")
def _pad(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source = builder.image_value(arguments["self"])
    sizes = [int(size) for size in arguments["pad"]] + [0] * 4
    value = 0.0 if arguments["value"] is None else float(arguments["value"])
    if arguments.get("mode", "constant") != "constant" or min(sizes) < 0 or any(sizes[6:]):
        raise Unsupported("it is not zeros around an image")
    if any(sizes[4:6]):
        if any(sizes[:4]) or value != 0:
            raise Unsupported("it is not zeros around an image")
        # Channels of zeros are filters of zeros; the others are copies.
        weight = np.eye(result.shape[1], arguments["self"].shape[1], -sizes[4], np.float32)[:, :, None, None]
        builder.add(
            Conv(source, builder.new_result(result, "pad"), weight, np.zeros(len(weight), np.float32))
        )
        return
    output = builder.new_result(result, "pad")
    step = TorchCall(torch.ops.aten.constant_pad_nd.default, (Ref(source), sizes[:4], value), {}, (output,))
    builder.add_fallback([step], [output], "what reads it cannot pad by itself")
    left, right, top, bottom = sizes[:4]
    padding = (top, left, bottom, right)
    if source in builder.padded and builder.padded[source][2] == value:
        source, around, _ = builder.padded[source]
        padding = add_padding(padding, around)
    builder.padded[output] = (source, padding, value)
