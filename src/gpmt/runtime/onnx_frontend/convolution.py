"""Convolutions, also transposed ones."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported, check_size
from gpmt.runtime.onnx_frontend.registry import operator
from gpmt.runtime.onnx_frontend.windows import MAX_LENGTH, padded, read_windows

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("Conv", 1, 11, 22)
def _conv(call: Call) -> Tensor:
    source, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    windows = read_windows(call, source, weight.shape[2:])
    windows.outputs(source.shape[2:])
    groups = _groups(call)
    padding = windows.before
    if not windows.is_even:
        source, padding = padded(source, windows, 0.0), (0,) * windows.axes
    convolution = _CONVOLUTIONS[windows.axes]
    return convolution(source, weight, bias, windows.stride, padding, windows.dilation, groups)


@operator("ConvTranspose", 1, 11, 22)
def _conv_transpose(call: Call) -> Tensor:
    source, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    # What auto_pad says is about the output here.
    mode = call.text("auto_pad", "NOTSET")
    windows = read_windows(call, source, weight.shape[2:])
    nothing = [0] * windows.axes
    beyond = call.integer_list("output_padding") or nothing
    if len(beyond) != windows.axes or not all(0 <= number <= MAX_LENGTH for number in beyond):
        raise NotSupported(f"its output_padding is {str(beyond)[:60]}")
    wanted = call.integer_list("output_shape")
    if wanted is None and mode.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(source.shape[2:], windows.stride, strict=True)]
    whole = [
        stride * (size - 1) + extra + reach
        for stride, size, extra, reach in zip(
            windows.stride, source.shape[2:], beyond, windows.reach, strict=True
        )
    ]
    if wanted is not None:
        if len(wanted) != windows.axes:
            raise NotSupported(f"its output_shape is {str(wanted)[:60]}, not {windows.axes} numbers")
        total = [one - other for one, other in zip(whole, wanted, strict=True)]
        if mode != "SAME_UPPER":
            before = [t - t // 2 for t in total]
        else:
            before = [t // 2 for t in total]
        windows = replace(
            windows,
            before=tuple(before),
            after=tuple(t - b for t, b in zip(total, before, strict=True)),
        )
    check_size([source.shape[0], weight.shape[1] * _groups(call), *whole])
    convolution = _TRANSPOSED[windows.axes]
    given = source, weight, bias, windows.stride
    if windows.is_even and all(b >= 0 for b in windows.before) and _allowed(beyond, windows.stride):
        return convolution(*given, windows.before, beyond, _groups(call), windows.dilation)
    if not _allowed(beyond, windows.stride):
        raise NotSupported(f"its output_padding is {beyond}, not less than its strides")
    found = convolution(*given, tuple(nothing), beyond, _groups(call), windows.dilation)
    cut = [-n for b, a in zip(reversed(windows.before), reversed(windows.after), strict=True) for n in (b, a)]
    return F.pad(found, cut)


def _allowed(beyond: list[int], stride: tuple[int, ...]) -> bool:
    return all(one < other for one, other in zip(beyond, stride, strict=True))


def _groups(call: Call) -> int:
    groups = call.integer("group", 1)
    if not 1 <= groups <= MAX_LENGTH:
        raise NotSupported(f"its group is {groups}")
    return groups
