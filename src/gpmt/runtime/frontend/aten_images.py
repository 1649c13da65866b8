"""ATen's operators on images: convolutions, batch-norm, pooling, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.frontend.aten_elementwise import identity
from gpmt.runtime.frontend.builder import Arguments, Builder, Handler, Leave
from gpmt.runtime.ir.operators import Affine, Concat, Conv, GlobalMean, Pool, Slice, Upsample
from gpmt.runtime.ir.operators.pooling import pooling_problem
from gpmt.runtime.ir.operators.upsampling import FACTORS
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.ir.values import Pair

Padding = tuple[int, int, int, int]


def pair(numbers: Any) -> Pair:
    """Return one or two numbers of ATen as (vertical, horizontal)."""
    if isinstance(numbers, int):
        return numbers, numbers
    listed = [int(number) for number in numbers]
    return (listed[0], listed[-1])


def _convolution(b: Builder, a: Arguments, result: Tensor) -> None:
    weight = b.floats(a["weight"], "weight")
    if a.get("transposed", False):
        raise Leave("it is transposed")
    source = b.image(a["input"])
    filters = weight.shape[0]
    bias = np.zeros(filters, np.float32) if a["bias"] is None else b.floats(a["bias"], "bias")
    dilation = pair(a["dilation"])
    padding = _conv_padding(a["padding"], dilation, weight.shape[2:])
    if source in b.padded:
        inner, around, fill = b.padded[source]
        if fill == 0:
            source, padding = inner, _plus(padding, around)
    b.add(
        Conv(
            source,
            b.new(result, "conv2d"),
            weight,
            bias,
            pair(a["stride"]),
            padding,
            dilation,
            int(a["groups"]),
            name=b.origin(a["weight"]),
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


def _plus(one: Padding, other: Padding) -> Padding:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


def _batch_norm(b: Builder, a: Arguments, result: Tensor) -> None:
    if a.get("training", False):
        raise Leave("it is in training mode")
    source = a["input"]
    if source.ndim not in (2, 4):
        raise Leave(f"its input has {source.ndim} dimensions, not 2 or 4")
    name = b.vector(source)
    if a["running_mean"] is None or a["running_var"] is None:
        raise Leave("it has no running statistics")
    mean, var = (b.floats(a[key], key).astype(np.float64) for key in ("running_mean", "running_var"))
    scale = 1 / np.sqrt(var + a["eps"])
    if a["weight"] is not None:
        scale = scale * b.floats(a["weight"], "weight")
    shift = -mean * scale
    if a["bias"] is not None:
        shift = shift + b.floats(a["bias"], "bias")
    b.add(Affine(name, b.new(result, "batch_norm"), scale.astype(np.float32), shift.astype(np.float32)))


def _pool(b: Builder, result: Tensor, base: str, pool: Pool) -> None:
    """Add a pooling operator, whose output is the result, to be named like `base`."""
    width = b.graph.values[pool.input].shape[3]
    if why := pooling_problem(width, result.shape[3], pool.kernel[1], pool.stride[1], pool.padding[1]):
        raise Leave(why)
    b.add(replace(pool, output=b.new(result, base)))


def _max_pool(b: Builder, a: Arguments, result: Tensor) -> None:
    if pair(a["dilation"]) != (1, 1):
        raise Leave("its windows are dilated")
    source = b.image(a["self"])
    kernel, stride = pair(a["kernel_size"]), pair(a["stride"] or a["kernel_size"])
    vertical, horizontal = pair(a["padding"])
    padding = (vertical, horizontal, vertical, horizontal)
    shape = a["self"].shape
    if source in b.padded and b.padded[source][2] == -np.inf:
        source, around, _ = b.padded[source]
        padding = _plus(padding, around)
        shape = b.graph.values[source].shape
    padding, _ = _covering(shape, result.shape, kernel, stride, padding)
    _pool(b, result, "max_pool2d", Pool(source, "", "max", kernel, stride, padding))


def _mean_pool(b: Builder, a: Arguments, result: Tensor) -> None:
    source = b.image(a["self"])
    kernel, stride = pair(a["kernel_size"]), pair(a["stride"] or a["kernel_size"])
    if kernel == tuple(a["self"].shape[2:]) and a["divisor_override"] is None and not any(pair(a["padding"])):
        b.add(GlobalMean(source, b.new(result, "mean")))
        return
    if a["divisor_override"] not in (None, kernel[0] * kernel[1]):
        raise Leave("its divisor is given")
    vertical, horizontal = pair(a["padding"])
    declared = (vertical, horizontal, vertical, horizontal)
    padding, beyond = _covering(a["self"].shape, result.shape, kernel, stride, declared)
    count = bool(a["count_include_pad"])
    if not any(declared) and a["divisor_override"] is None:
        count = not beyond  # what ceil_mode adds never counts
    elif count and beyond:
        raise Leave("its last windows, rounded up, count only part of the padding")
    elif a["divisor_override"] is not None:
        count = True
    shape, around = a["self"].shape, (0, 0, 0, 0)
    if count and source in b.padded and b.padded[source][2] == 0:
        source, around, _ = b.padded[source]
        shape = b.graph.values[source].shape
    padding, _ = _covering(shape, result.shape, kernel, stride, _plus(padding, around))
    _pool(b, result, "avg_pool2d", Pool(source, "", "mean", kernel, stride, padding, count))


def _covering(
    shape: Sequence[int], result: Sequence[int], kernel: Pair, stride: Pair, padding: Padding
) -> tuple[Padding, bool]:
    """Enlarge the padding below and right to what windows rounded up need, and say whether it was needed."""
    needed = [(result[2 + i] - 1) * stride[i] + kernel[i] - shape[2 + i] - padding[i] for i in range(2)]
    below, right = (max(padding[2 + i], needed[i]) for i in range(2))
    return (padding[0], padding[1], below, right), (below, right) != padding[2:]


def _adaptive_mean(b: Builder, a: Arguments, result: Tensor) -> None:
    source, shape = b.image(a["self"]), a["self"].shape
    if result.shape == shape:
        b.same(result, source)
    elif tuple(result.shape[2:]) == (1, 1):
        b.add(GlobalMean(source, b.new(result, "mean")))
    else:
        kernel = _even(shape, result.shape)
        _pool(b, result, "adaptive_avg_pool2d", Pool(source, "", "mean", kernel, kernel))


def _adaptive_max(b: Builder, a: Arguments, result: Tensor) -> None:
    source, shape = b.image(a["self"]), a["self"].shape
    if result.shape == shape:
        b.same(result, source)
    else:
        kernel = _even(shape, result.shape)
        _pool(b, result, "adaptive_max_pool2d", Pool(source, "", "max", kernel, kernel))


def _even(shape: Sequence[int], result: Sequence[int]) -> Pair:
    if shape[2] % result[2] or shape[3] % result[3]:
        raise Leave("its windows are of several sizes")
    return shape[2] // result[2], shape[3] // result[3]


def _mean(b: Builder, a: Arguments, result: Tensor) -> None:
    source = b.image(a["self"])
    if {d % 4 for d in a.get("dim") or ()} != {2, 3}:
        raise Leave("it is not over height and width")
    if result.dtype != torch.float32:
        raise Leave("its result is not float32")
    b.add(GlobalMean(source, b.new(result, "mean")))


def _pad(b: Builder, a: Arguments, result: Tensor) -> None:
    source = b.image(a["self"])
    sizes = [int(size) for size in a["pad"]] + [0] * 4
    value = 0.0 if a["value"] is None else float(a["value"])
    if a.get("mode", "constant") != "constant" or min(sizes) < 0 or any(sizes[6:]):
        raise Leave("it is not zeros around an image")
    if any(sizes[4:6]):
        if any(sizes[:4]) or value != 0:
            raise Leave("it is not zeros around an image")
        # Channels of zeros are filters of zeros; the others are copies.
        weight = np.eye(result.shape[1], a["self"].shape[1], -sizes[4], np.float32)[:, :, None, None]
        b.add(Conv(source, b.new(result, "pad"), weight, np.zeros(len(weight), np.float32)))
        return
    output = b.new(result, "pad")
    step = TorchCall(torch.ops.aten.constant_pad_nd.default, (Ref(source), sizes[:4], value), {}, (output,))
    b.leave([step], [output], "what reads it cannot pad by itself")
    left, right, top, bottom = sizes[:4]
    padding = (top, left, bottom, right)
    if source in b.padded and b.padded[source][2] == value:
        source, around, _ = b.padded[source]
        padding = _plus(padding, around)
    b.padded[output] = (source, padding, value)


def _slice(b: Builder, a: Arguments, result: Tensor) -> None:
    source, dim, step = a["self"], a["dim"] % a["self"].ndim, a["step"]
    if step == 1 and dim == 1 and source.ndim == 4 and result.shape != source.shape:
        first = slice(a["start"], a["end"]).indices(source.shape[1])[0]
        b.add(Slice(b.image(source), b.new(result, "slice"), first))
        return
    if step == 1:
        identity(b, a, result)
        return
    if dim < 2 or a["start"] or (a["end"] is not None and a["end"] < source.shape[dim]):
        raise Leave("there is no kernel for it")
    # Every n-th row or column: windows of one pixel.
    stride = (step, 1) if dim == 2 else (1, step)
    _pool(b, result, "slice", Pool(b.image(source), "", "max", (1, 1), stride))


def _concat(b: Builder, a: Arguments, result: Tensor) -> None:
    tensors = [tensor for tensor in a["tensors"] if tuple(tensor.shape) != (0,)]
    if len(tensors) == 1 and tensors[0].dtype == result.dtype:
        b.same(result, b.name(tensors[0]))
        return
    parts = tuple(b.image(tensor) for tensor in tensors)
    if a["dim"] % 4 != 1:
        raise Leave("it is not along the channels")
    b.add(Concat(parts, b.new(result, "cat")))


def split(b: Builder, a: Arguments, results: Sequence[Tensor]) -> None:
    """Add the operators that take an image apart by its channels; raises `Leave` as a `Handler` does."""
    name = b.image(a["self"])
    if a["dim"] % 4 != 1:
        raise Leave("it is not along the channels")
    first = 0
    for result in results:
        b.add(Slice(name, b.new(result, "split"), first))
        first += result.shape[1]


def _upsample(b: Builder, a: Arguments, result: Tensor) -> None:
    source = b.image(a["input"] if "input" in a else a["self"])
    shape = b.graph.values[source].shape
    factor = result.shape[2] // shape[2], result.shape[3] // shape[3]
    if (factor[0] * shape[2], factor[1] * shape[3]) != tuple(result.shape[2:]) or not {*factor} <= {*FACTORS}:
        raise Leave("its factors are not 1, 2 or 4")
    # PyTorch divides by the factors that it was given, even where the sizes say others.
    given = a.get("scale_factors") or (a.get("scales_h"), a.get("scales_w"))
    if any(wanted not in (None, found) for wanted, found in zip(given, factor, strict=True)):
        raise Leave("its factors are not 1, 2 or 4")
    b.add(Upsample(source, b.new(result, "upsample"), factor))


SPLITS = "chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split"
HANDLERS: dict[str, Handler] = {
    "_adaptive_avg_pool2d": _adaptive_mean,
    "_convolution": _convolution,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "adaptive_avg_pool2d": _adaptive_mean,
    "adaptive_max_pool2d": _adaptive_max,
    "avg_pool2d": _mean_pool,
    "batch_norm": _batch_norm,
    "cat": _concat,
    "concat": _concat,
    "constant_pad_nd": _pad,
    "conv2d": _convolution,
    "convolution": _convolution,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "mean": _mean,
    "native_batch_norm": _batch_norm,
    "pad": _pad,
    "slice": _slice,
    **dict.fromkeys(("upsample_nearest2d", "_upsample_nearest_exact2d"), _upsample),
}
