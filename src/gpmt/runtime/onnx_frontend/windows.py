"""The windows of convolutions and pooling: kernels, strides, and padding at both ends of every axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported, check_size

MAX_LENGTH = 2**20
"""Of a window, stride or padding; the sizes of images are of this order at most."""


@dataclass(frozen=True)
class Windows:
    """Windows over the last axes of a tensor; every field has a number for each axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """From the first element of a window to the one after its last."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def is_even(self) -> bool:
        """Whether there is as much padding after as before."""
        return self.before == self.after

    @property
    def axes(self) -> int:
        """How many axes they have."""
        return len(self.kernel)

    def outputs(self, sizes: Sequence[int], *, upwards: bool = False) -> tuple[int, ...]:
        """Return how many windows there are over each axis, rounded down or up."""
        found = []
        for size, reach, stride, before, after in zip(
            sizes, self.reach, self.stride, self.before, self.after, strict=True
        ):
            room = size + before + after - reach
            if room < 0:
                raise NotSupported(f"its window of {reach} does not fit into {size + before + after}")
            count = -(-room // stride) + 1 if upwards else room // stride + 1
            if upwards and (count - 1) * stride >= size + before:  # it would begin in the padding
                count -= 1
            found.append(count)
        return tuple(found)

    def covering(self, sizes: Sequence[int], outputs: Sequence[int]) -> Windows:
        """Return the windows with as much padding after as so many of them need, and no more."""
        after = [
            (count - 1) * stride + reach - size - before
            for count, stride, reach, size, before in zip(
                outputs, self.stride, self.reach, sizes, self.before, strict=True
            )
        ]
        longer = tuple(max(pair) for pair in zip(self.after, after, strict=True))
        return replace(self, after=longer)


def read_windows(call: Call, source: Tensor, kernel: Sequence[int] | None) -> Windows:
    """Return the windows that the attributes of a convolution or pooling describe.

    Args:
        call: the node.
        source: what the windows are over, [samples, channels, ...].
        kernel: their sizes; None where an attribute gives them.
    """
    axes = source.ndim - 2
    if not 1 <= axes <= 3:
        raise NotSupported(f"its input has {source.ndim} dimensions, not 3 to 5")
    given = call.integer_list("kernel_shape")
    sizes = list(kernel or given or [])
    if given is not None and given != sizes:
        raise NotSupported(f"its kernel_shape is {given}, but its weight is for {sizes}")
    ones = [1] * axes
    stride, dilation = call.integer_list("strides") or ones, call.integer_list("dilations") or ones
    pads = call.integer_list("pads") or ones * 2
    if not call.integer_list("pads"):
        pads = [0] * (2 * axes)
    for what, numbers, count, least in (
        ("kernel_shape", sizes, axes, 1),
        ("strides", stride, axes, 1),
        ("dilations", dilation, axes, 1),
        ("pads", pads, 2 * axes, 0),
    ):
        if len(numbers) != count or not all(least <= number <= MAX_LENGTH for number in numbers):
            raise NotSupported(f"its {what} are {str(numbers)[:60]}, not {count} numbers from {least} up")
    found = Windows(*map(tuple, (sizes, stride, dilation, pads[:axes], pads[axes:])))
    return _auto_padded(found, call.text("auto_pad", "NOTSET"), source.shape[2:])


def _auto_padded(windows: Windows, mode: str, sizes: Sequence[int]) -> Windows:
    nothing = (0,) * windows.axes
    if mode == "NOTSET":
        return windows
    if mode == "VALID":
        return replace(windows, before=nothing, after=nothing)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise NotSupported(f"its auto_pad is {mode!r}")
    total = [
        max((-(-size // stride) - 1) * stride + reach - size, 0)
        for size, stride, reach in zip(sizes, windows.stride, windows.reach, strict=True)
    ]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    one, other = (less, more) if mode == "SAME_UPPER" else (more, less)
    return replace(windows, before=one, after=other)


def padded(source: Tensor, windows: Windows, value: float) -> Tensor:
    """Return a tensor with the windows' padding around its last axes."""
    if not any(windows.before + windows.after):
        return source
    sizes = [
        size + before + after
        for size, before, after in zip(source.shape[2:], windows.before, windows.after, strict=True)
    ]
    check_size([*source.shape[:2], *sizes])
    pairs = zip(reversed(windows.before), reversed(windows.after), strict=True)
    return F.pad(source, [number for pair in pairs for number in pair], value=value)
