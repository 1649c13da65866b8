"""Where the taps of a convolution read its input: each at one offset from the output's pixel.

With a stride s, row y · s + k of the input is row y + q of *phase* r, where k = q · s + r. Phase r has every s-th row
of the input, from row r on. Stored as planes of their own, the phases make every convolution one of stride 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.ir.operators import Conv
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True, eq=False)
class Taps:
    """The taps of a convolution, in the order of its weights [filters, taps].

    Attributes:
        offsets: int64 [taps], bytes from the output's pixel to the input's, for the filters of the first group.
        channels: int64 [taps], the input channel of each within its group, in ascending order.
        filter_offsets: int64 [filters], bytes to add for each filter, which depend on its group; None for one group.
    """

    offsets: NDArray[np.int64]
    channels: NDArray[np.int64]
    filter_offsets: NDArray[np.int64] | None


@dataclass(frozen=True)
class ConvWindows:
    """The windows of a convolution.

    Attributes:
        stride: of the convolution.
        input_size, output_size: height and width of its input and output.
        channels: input channels of a group.
        filters: of all groups.
        rows, columns: where each row and column of taps begins to read, relative to the input's first pixel.
        phases: (row, column) of the phases that are read, in order.
        groups: of the convolution.
    """

    stride: Pair
    input_size: Pair
    output_size: Pair
    channels: int
    filters: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    phases: tuple[Pair, ...]
    groups: int

    @staticmethod
    def of(op: Conv, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> ConvWindows:
        """Return the windows of an operator."""
        filters, channels, *kernel = op.weight.shape
        sy, sx = op.stride
        rows = tuple(k * op.dilation[0] - op.padding[0] for k in range(kernel[0]))
        columns = tuple(k * op.dilation[1] - op.padding[1] for k in range(kernel[1]))
        phases = tuple(
            (r, c) for r in sorted({y % sy for y in rows}) for c in sorted({x % sx for x in columns})
        )
        return ConvWindows(
            op.stride, (input_shape[2], input_shape[3]), (output_shape[2], output_shape[3]),
            channels, filters, rows, columns, phases, op.groups,
        )  # fmt: skip

    @property
    def phase_size(self) -> Pair:
        """Height and width of a phase."""
        return ceil_div(self.input_size[0], self.stride[0]), ceil_div(self.input_size[1], self.stride[1])

    def zeros_read(self, phases: bool = True) -> dict[str, int]:
        """Return how far windows reach beyond the images, as arguments of `LayoutSolver.need_zeros`.

        Args:
            phases: whether the convolution reads the phases, or the input itself.
        """
        (sy, sx), (height, width) = self.stride, self.phase_size
        if phases:
            ys, xs = [y // sy for y in self.rows], [x // sx for x in self.columns]
            below = max(ys) + self.output_size[0] - height
            right = max(xs) + self.output_size[1] - width
        else:
            ys, xs = list(self.rows), list(self.columns)
            below = max(ys) + (self.output_size[0] - 1) * sy + 1 - self.input_size[0]
            right = max(xs) + (self.output_size[1] - 1) * sx + 1 - self.input_size[1]
        return {
            "above": max(0, -min(ys)),
            "left": max(0, -min(xs)),
            "below": max(0, below),
            "right": max(0, right),
            # Kernels compute the padding of the output's rows too, and then set it to zero.
            "past_padding": max(0, max(xs)),
        }

    def taps(self, planes: Planes) -> Taps:
        """Return where the taps read in the phases, given the layout of these."""
        (sy, sx), index = self.stride, {phase: i for i, phase in enumerate(self.phases)}
        window = np.array(
            [
                index[y % sy, x % sx] * planes.plane_stride + y // sy * planes.pitch + x // sx
                for y in self.rows
                for x in self.columns
            ],
            np.int64,
        )
        channel_stride = planes.plane_stride * len(self.phases)
        offsets = (np.arange(self.channels)[:, None] * channel_stride + window).ravel() * FLOAT_BYTES
        channels = np.repeat(np.arange(self.channels), window.size)
        if self.groups == 1:
            return Taps(offsets, channels, None)
        group = np.arange(self.filters) * self.groups // self.filters
        return Taps(offsets, channels, group * self.channels * channel_stride * FLOAT_BYTES)
