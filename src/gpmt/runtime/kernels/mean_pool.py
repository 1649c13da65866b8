"""Mean pooling; the loops and arguments are those of `shared/pool_windows.py`, and:

scales  [output height, output width, rounded up to whole vectors]: the factor of each window's sum
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import round_up
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.kernels.shared.pool_windows import WindowPoolKernel


@dataclass(frozen=True)
class MeanPoolKernel(WindowPoolKernel):
    """The mean of every window; attributes as in `WindowPoolKernel`.

    Attributes:
        count_padding: whether sums are divided by the size of the window, or of its part inside the image.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "scales")

    count_padding: bool = True

    def scales(self) -> NDArray[np.float32]:
        """Return the argument "scales"."""
        output, (rows, columns) = self.output, self.kernel
        if self.count_padding:
            sizes = np.full((output.height, output.width), rows * columns)
        else:
            heights = _inside(output.height, rows, self.stride[0], self.padding[0], self.input.height)
            widths = _inside(output.width, columns, self.stride[1], self.padding[1], self.input.width)
            sizes = heights[:, None] * widths
        result = np.zeros((output.height, self._scales_pitch), np.float32)
        result[:, : output.width] = 1 / np.maximum(sizes, 1)
        return result

    @property
    def _scales_pitch(self) -> int:
        return round_up(self.output.width, self.lanes)

    def _combine(self, e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
        result = values[0]
        for value in values[1:]:
            result = e.builder.fadd(result, value)
        return result

    def _outside(self, e: Emitter) -> ir.Constant:
        return e.splat(0.0)

    def _finish(self, e: Emitter, value: ir.Value, y: ir.Value, x: ir.Value) -> ir.Value:
        offset = e.add(e.mul(y, 4 * self._scales_pitch), e.mul(x, 4))
        return e.builder.fmul(value, e.load(e.add(e.arg("scales"), offset), e.vector))


def _inside(windows: int, kernel: int, stride: int, padding: int, size: int) -> NDArray[np.int64]:
    """Return how many elements of each window are inside the image, along one dimension."""
    first = np.arange(windows) * stride - padding
    return np.minimum(first + kernel, size) - np.maximum(first, 0)
