"""The inputs of a layer as matrices, a piece at a time: of a product as they are, of a convolution unfolded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

_PIECE = 1 << 22
"""Elements of one piece; more would only take memory."""


class Inputs(Protocol):
    """What one application of a layer's weights multiplies them with."""

    @property
    def positions(self) -> int:
        """Number of vectors that the weights are applied to."""

    def pieces(self) -> Iterator[Tensor]:
        """Yield the vectors, float64 [blocks, positions, inputs of one output]."""

    def squares(self) -> Tensor:
        """Return the sum over all positions of the squared inputs, float64 [blocks, inputs of one output]."""


@dataclass(frozen=True)
class Vectors:
    """The inputs of matrix products, [blocks, positions, inputs]."""

    tensor: Tensor

    @property
    def positions(self) -> int:
        """Number of vectors."""
        return self.tensor.shape[1]

    def pieces(self) -> Iterator[Tensor]:
        """Yield some vectors at a time."""
        blocks, _, inputs = self.tensor.shape
        for piece in torch.split(self.tensor, max(1, _PIECE // max(1, blocks * inputs)), 1):
            yield wide(piece)

    def squares(self) -> Tensor:
        """Return the sums of squares."""
        total = torch.zeros(
            self.tensor.shape[0], self.tensor.shape[2], dtype=torch.float64, device=wide_device(self.tensor)
        )
        for piece in self.pieces():
            total += piece.square().sum(1)
        return total


@dataclass(frozen=True)
class Windows:
    """The inputs of a convolution: a window of each channel, at each position of the output.

    The order of the inputs of one output is that of the weight: channels of the group, then taps. A transposed
    convolution is a plain one over an image with zeros between its pixels, with the taps in reverse.

    Attributes:
        image: [samples, channels, *sizes].
        taps: sizes of the window; `stride`, `padding`, `dilation` and `output_padding` have as many elements.
        groups: groups of channels, which are the blocks.
    """

    image: Tensor
    taps: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    @property
    def positions(self) -> int:
        """Number of positions of all samples' outputs."""
        shape = self._view(self.image[:1]).shape
        return len(self.image) * math.prod(shape[2 : 2 + len(self.taps)])

    def pieces(self) -> Iterator[Tensor]:
        """Yield the windows of some samples, and of some rows of their outputs, at a time."""
        if not self.image.numel():
            return
        dims, view = len(self.taps), self._view(self.image[:1])
        rows = view.shape[2]
        samples = max(1, _PIECE // view.numel())
        step = max(1, _PIECE * rows // view.numel()) if samples == 1 else rows
        for part in torch.split(self.image, samples):
            view = self._view(part)
            for start in range(0, rows, step):
                windows = view[:, :, start : start + step]
                if self.transposed:
                    windows = windows.flip([*range(-dims, 0)])
                # [samples, groups, channels, *positions, *taps] -> [groups, samples, *positions, channels, *taps]
                windows = torch.unflatten(windows, 1, (self.groups, -1))
                order = [1, 0, *range(3, 3 + dims), 2, *range(3 + dims, 3 + 2 * dims)]
                windows = windows.permute(order)
                yield wide(windows.reshape(self.groups, -1, math.prod(windows.shape[2 + dims :])))

    def squares(self) -> Tensor:
        """Return the sums of squares; those of all samples are added before they are unfolded."""
        total = torch.zeros_like(self.image[:1], dtype=torch.float64, device=wide_device(self.image))
        for part in torch.split(self.image, max(1, _PIECE // max(1, self.image[:1].numel()))):
            total += wide(part).square().sum(0, keepdim=True)
        summed = replace(self, image=total)
        inputs = self.image.shape[1] // self.groups * math.prod(self.taps)
        result = torch.zeros(self.groups, inputs, dtype=torch.float64, device=total.device)
        for piece in summed.pieces():
            result += piece.sum(1)
        return result

    def _view(self, image: Tensor) -> Tensor:
        """Return all windows, [samples, channels, *positions, *taps], as a view of the padded image."""
        stride, low, high = self.stride, list(self.padding), list(self.padding)
        if self.transposed:
            image = _spread(image, self.stride)
            stride = (1,) * len(self.taps)
            reach = [gap * (taps - 1) for gap, taps in zip(self.dilation, self.taps, strict=True)]
            low = [whole - cut for whole, cut in zip(reach, self.padding, strict=True)]
            high = [side + extra for side, extra in zip(low, self.output_padding, strict=True)]
        image = F.pad(
            image, [side for pair in zip(reversed(low), reversed(high), strict=True) for side in pair]
        )
        for dim, (taps, step, gap) in enumerate(zip(self.taps, stride, self.dilation, strict=True), 2):
            image = image.unfold(dim, gap * (taps - 1) + 1, step)[..., ::gap]
        return image


def _spread(image: Tensor, stride: Sequence[int]) -> Tensor:
    """Return an image with stride - 1 zeros between any two pixels."""
    sizes = [(size - 1) * step + 1 for size, step in zip(image.shape[2:], stride, strict=True)]
    spread = image.new_zeros((*image.shape[:2], *sizes))
    pixels = spread
    for dim, step in enumerate(stride, 2):
        pixels = pixels[(slice(None),) * dim + (slice(None, None, step),)]
    pixels.copy_(image)
    return spread


def wide_device(tensor: Tensor) -> torch.device:
    """Return where a tensor can be summed in float64, which Apple's GPUs do not have."""
    return torch.device("cpu") if tensor.device.type == "mps" else tensor.device


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, without its history."""
    return tensor.detach().to(wide_device(tensor)).to(torch.float64)
