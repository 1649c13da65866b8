"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported
from gpmt.runtime.onnx_frontend.registry import Result, operator
from gpmt.runtime.onnx_frontend.windows import Windows, padded, read_windows
from gpmt.torch_private import disable_current_modes

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@operator("MaxPool", 1, 8, 10, 11, 12, 22)
def _max_pool(call: Call) -> Tensor:
    source = call.tensor(0)
    if call.is_wanted(1):
        raise NotSupported("its indices are read")
    _check_floating(source)
    windows = read_windows(call, source, None)
    sizes = source.shape[2:]
    windows = windows.covering(sizes, windows.outputs(sizes, upwards=bool(call.integer("ceil_mode", 0))))
    pool, padding = _MAX_POOL[windows.axes], windows.before
    if not _within_half(windows):
        source, padding = padded(source, windows, -math.inf), (0,) * windows.axes
    return pool(source, windows.kernel, windows.stride, padding, windows.dilation)


@operator("AveragePool", 1, 7, 10, 11, 19, 22)
def _average_pool(call: Call) -> Tensor:
    source = call.tensor(0)
    _check_floating(source)
    windows = read_windows(call, source, None)
    if any(d != 1 for d in windows.dilation):
        raise NotSupported("its windows are dilated")
    counts_padding = bool(call.integer("count_include_pad", 0))
    sizes = source.shape[2:]
    outputs = windows.outputs(sizes, upwards=bool(call.integer("ceil_mode", 0)))
    whole = windows.covering(sizes, outputs)
    pool = _MEAN_POOL[windows.axes]
    if _within_half(whole):
        return pool(source, whole.kernel, whole.stride, whole.before, False, counts_padding)
    if counts_padding and whole == windows:
        return pool(padded(source, whole, 0.0), whole.kernel, whole.stride)
    if not counts_padding and _is_rounding_up(windows, sizes, outputs):
        # Uneven padding after is what rounding up adds.
        return pool(source, whole.kernel, whole.stride, whole.before, True, False)
    with disable_current_modes():
        ones = torch.ones(1, 1, *sizes, device="cpu")
        ones = padded(ones, windows, 1.0) if counts_padding else ones
        inside = windows.covering(ones.shape[2:], outputs) if not counts_padding else None
        if inside is None:
            beyond = [w - c for w, c in zip(whole.after, windows.after, strict=True)]
            ones = F.pad(ones, [n for extra in reversed(beyond) for n in (0, extra)])
        else:
            ones = padded(ones, whole, 0.0)
        shares = pool(ones, whole.kernel, whole.stride).clamp_(min=1e-30).reciprocal_()
    return pool(padded(source, whole, 0.0), whole.kernel, whole.stride) * shares


def _is_rounding_up(windows: Windows, sizes: Sequence[int], outputs: Sequence[int]) -> bool:
    """Whether windows with the padding before them on both sides, rounded up, are the same ones."""
    if any(2 * before > kernel for before, kernel in zip(windows.before, windows.kernel, strict=True)):
        return False
    for size, before, kernel, stride, count in zip(
        sizes, windows.before, windows.kernel, windows.stride, outputs, strict=True
    ):
        room = size + 2 * before - kernel
        found = -(-room // stride) + 1
        if (found - 1) * stride >= size + before:
            found -= 1
        if found != count:
            return False
    return True


def _within_half(windows: Windows) -> bool:
    """Whether PyTorch pools with this padding: as much on both sides, and at most half a window."""
    return windows.is_even and all(
        2 * before <= kernel for before, kernel in zip(windows.before, windows.kernel, strict=True)
    )


@operator("GlobalAveragePool", 1, 22)
def _global_average_pool(call: Call) -> Tensor:
    source = call.tensor(0)
    if source.ndim == 4:
        return F.adaptive_avg_pool2d(source, 1)
    return source.mean(list(range(2, source.ndim)), keepdim=True)


@operator("GlobalMaxPool", 1, 22)
def _global_max_pool(call: Call) -> Result:
    source = call.tensor(0)
    if source.ndim == 4:
        return F.adaptive_max_pool2d(source, 1)
    return source.amax(list(range(2, source.ndim)), keepdim=True)


def _check_floating(source: Tensor) -> None:
    if not source.is_floating_point():
        raise NotSupported(f"its input is {str(source.dtype).removeprefix('torch.')}")
