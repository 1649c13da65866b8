"""ATen's pooling and means of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.frontend.padding import add_padding, pair
from gpmt.runtime.ir.operators import GlobalMean, Pool
from gpmt.runtime.ir.operators.pooling import pooling_problem
from gpmt.runtime.ir.values import Padding, Pair


def add_pool(builder: Builder, result: Tensor, base: str, pool: Pool) -> None:
    """Add a pooling operator, whose output is the result, to be named like `base`."""
    width = builder.graph.values[pool.input].shape[3]
    if why := pooling_problem(width, result.shape[3], pool.kernel[1], pool.stride[1], pool.padding[1]):
        raise Unsupported(why)
    builder.add(replace(pool, output=builder.new_result(result, base)))


@handles("max_pool2d", "max_pool2d_with_indices")
def _max_pool(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    if pair(arguments["dilation"]) != (1, 1):
        raise Unsupported("its windows are dilated")
    source = builder.image_value(arguments["self"])
    kernel, stride = pair(arguments["kernel_size"]), pair(arguments["stride"] or arguments["kernel_size"])
    vertical, horizontal = pair(arguments["padding"])
    padding = (vertical, horizontal, vertical, horizontal)
    shape = arguments["self"].shape
    if source in builder.padded and builder.padded[source][2] == -np.inf:
        source, around, _ = builder.padded[source]
        padding = add_padding(padding, around)
        shape = builder.graph.values[source].shape
    padding, _ = _covering(shape, result.shape, kernel, stride, padding)
    add_pool(builder, result, "max_pool2d", Pool(source, "", "max", kernel, stride, padding))


@handles("avg_pool2d")
def _mean_pool(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source = builder.image_value(arguments["self"])
    shape, divisor = arguments["self"].shape, arguments["divisor_override"]
    kernel, stride = pair(arguments["kernel_size"]), pair(arguments["stride"] or arguments["kernel_size"])
    vertical, horizontal = pair(arguments["padding"])
    declared = (vertical, horizontal, vertical, horizontal)
    if kernel == tuple(shape[2:]) and divisor is None and not any(declared):
        builder.add(GlobalMean(source, builder.new_result(result, "mean")))
        return
    if divisor not in (None, kernel[0] * kernel[1]):
        raise Unsupported("its divisor is given")
    padding, beyond = _covering(shape, result.shape, kernel, stride, declared)
    count = bool(arguments["count_include_pad"])
    if not any(declared) and divisor is None:
        count = not beyond  # what ceil_mode adds never counts
    elif count and beyond:
        raise Unsupported("its last windows, rounded up, count only part of the padding")
    elif divisor is not None:
        count = True
    around = (0, 0, 0, 0)
    if count and source in builder.padded and builder.padded[source][2] == 0:
        source, around, _ = builder.padded[source]
        shape = builder.graph.values[source].shape
    padding, _ = _covering(shape, result.shape, kernel, stride, add_padding(padding, around))
    add_pool(builder, result, "avg_pool2d", Pool(source, "", "mean", kernel, stride, padding, count))


def _covering(
    shape: Sequence[int], result: Sequence[int], kernel: Pair, stride: Pair, padding: Padding
) -> tuple[Padding, bool]:
    """Enlarge the padding below and right to what windows rounded up need, and say whether it was needed."""
    needed = [(result[2 + i] - 1) * stride[i] + kernel[i] - shape[2 + i] - padding[i] for i in range(2)]
    below, right = (max(padding[2 + i], needed[i]) for i in range(2))
    return (padding[0], padding[1], below, right), (below, right) != padding[2:]


@handles("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive_mean(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source, shape = builder.image_value(arguments["self"]), arguments["self"].shape
    if result.shape == shape:
        builder.set_value(result, source)
    elif tuple(result.shape[2:]) == (1, 1):
        builder.add(GlobalMean(source, builder.new_result(result, "mean")))
    else:
        kernel = _even(shape, result.shape)
        add_pool(builder, result, "adaptive_avg_pool2d", Pool(source, "", "mean", kernel, kernel))


@handles("adaptive_max_pool2d")
def _adaptive_max(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source, shape = builder.image_value(arguments["self"]), arguments["self"].shape
    if result.shape == shape:
        builder.set_value(result, source)
    else:
        kernel = _even(shape, result.shape)
        add_pool(builder, result, "adaptive_max_pool2d", Pool(source, "", "max", kernel, kernel))


def _even(shape: Sequence[int], result: Sequence[int]) -> Pair:
    if shape[2] % result[2] or shape[3] % result[3]:
        raise Unsupported("its windows are of several sizes")
    return shape[2] // result[2], shape[3] // result[3]


@handles("mean")
def _mean(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    tensor = arguments["self"]
    axes = {d % tensor.ndim for d in arguments.get("dim") or ()}
    if tensor.ndim == 3 and axes == {1} and result.ndim == 2:
        source = builder.float_value(tensor)
    else:
        source = builder.image_value(tensor)
        if axes != {2, 3}:
            raise Unsupported("it is not over height and width")
    if result.dtype != torch.float32:
        raise Unsupported("its result is not float32")
    builder.add(GlobalMean(source, builder.new_result(result, "mean")))
