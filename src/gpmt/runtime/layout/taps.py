"""What a convolution's windows read of the planes of its input: shifted planes, one for each tap.

With a stride s, row y · s + k of the input is row y + q of *phase* r, where k = q · s + r: of the input's rows, every
s-th from r on. Stored as planes of their own, the phases make every convolution one of stride 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.ir.graph import Conv, Floats, Pair
from gpmt.runtime.layout.planes import Planes

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """The windows of a convolution.

    Attributes:
        stride: of the convolution.
        source, output: height and width of its input and output.
        rows, columns: where each row and column of taps begins to read, relative to the input's first pixel.
        phases: (row, column) of the phases that are read, in order.
        groups: of the convolution.
    """

    stride: Pair
    source: Pair
    output: Pair
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    phases: tuple[Pair, ...]
    groups: int

    @staticmethod
    def of(op: Conv, source: tuple[int, ...], output: tuple[int, ...]) -> Windows:
        """Return the windows of an operator, given the shapes of its input and output."""
        kernel, (sy, sx) = op.weight.shape[2:], op.stride
        rows = tuple(k * op.dilation[0] - op.padding[0] for k in range(kernel[0]))
        columns = tuple(k * op.dilation[1] - op.padding[1] for k in range(kernel[1]))
        phases = tuple(
            (r, c) for r in sorted({y % sy for y in rows}) for c in sorted({x % sx for x in columns})
        )
        return Windows(
            op.stride, (source[2], source[3]), (output[2], output[3]), rows, columns, phases, op.groups
        )

    @property
    def phase_size(self) -> Pair:
        """Height and width of a phase."""
        return ceil_div(self.source[0], self.stride[0]), ceil_div(self.source[1], self.stride[1])

    def needs(self, phases: bool = True) -> dict[str, int]:
        """Return how far windows reach beyond the pixels: of the phases, or of the input itself.

        "past" is how far they reach beyond the pads behind the last pixel of a row: kernels go through these too.
        """
        (sy, sx), (height, width) = self.stride, self.phase_size
        if phases:
            ys, xs = [y // sy for y in self.rows], [x // sx for x in self.columns]
            below = max(ys) + self.output[0] - height
            right = max(xs) + self.output[1] - width
        else:
            ys, xs = list(self.rows), list(self.columns)
            below = max(ys) + (self.output[0] - 1) * sy + 1 - self.source[0]
            right = max(xs) + (self.output[1] - 1) * sx + 1 - self.source[1]
        return {
            "above": max(0, -min(ys)),
            "left": max(0, -min(xs)),
            "below": max(0, below),
            "right": max(0, right),
            "past": max(0, max(xs)),
        }

    def taps(self, weight: Floats) -> tuple[Floats, Callable[[Planes], tuple[Ints, Ints, Ints | None]]]:
        """Return weights [filters, taps], and what gives, for the phases' layout, the taps' offsets and channels.

        The third of these is what the offsets of a filter have more, in a grouped convolution.
        """
        filters, channels = weight.shape[:2]
        (sy, sx), number = self.stride, {phase: i for i, phase in enumerate(self.phases)}

        def place(planes: Planes) -> tuple[Ints, Ints, Ints | None]:
            window = np.array(
                [
                    [
                        number[y % sy, x % sx] * planes.plane + y // sy * planes.pitch + x // sx
                        for x in self.columns
                    ]
                    for y in self.rows
                ],
                np.int64,
            ).ravel()
            step = planes.plane * len(self.phases)
            offsets = (np.arange(channels)[:, None] * step + window).ravel() * 4
            channel = np.repeat(np.arange(channels), window.size)
            if self.groups == 1:
                return offsets, channel, None
            group = np.arange(filters) * self.groups // filters
            return offsets, channel, group * channels * step * 4

        return weight.reshape(filters, -1), place
