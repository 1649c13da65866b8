"""Depthwise convolution: each channel has one small filter of its own.

Loops: channel → one of

* by rows: blocks of rows of the output → vectors of a row → rows of the input → columns of the window; each vector
  of the input that is loaded serves all rows of the block;
* as one line: blocks of vectors of the plane, padding included → taps; for short rows, whose vectors would mostly be
  padding. It needs stride 1 and equal pitches.

    input     planes [images, channels, height, width]
    output    planes [images, channels, output height, output width]
    residual  planes like the output's, or not given
    weights   [channels, taps + 1]: the taps of a channel, then its bias
    mask      int32 [extent, rounded up to whole cache lines]: -1 for pixels of the output, 0 for padding

Reads the zeros around the images that the windows reach, and whole vectors behind the end of a row, or of the plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.addresses import image_address, plane_address, row_address
from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.loops import RowVector, block_loop, row_loop
from gpmt.runtime.codegen.shuffles import every_second, gather, reorder
from gpmt.runtime.codegen.work_split import WorkSplit
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.kernels.shared.planes_kernel import PlanesKernel
from gpmt.runtime.layout.planes import Planes

_LINE_VECTORS = 8  # accumulators of a block of the line: enough to hide the latency of a multiply-add


@dataclass(frozen=True)
class DepthwiseConvKernel(PlanesKernel):
    """A depthwise convolution.

    Attributes:
        lanes, input, output: as in `PlanesKernel`; the input has zeros as far as the windows reach.
        kernel, stride, dilation: (rows, columns).
        padding: (top, left).
        residual: layout of the planes that are added before the activation, or None.
        activation: is applied to the result.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "residual", "weights", "mask")
    OPTIONAL_ARGS: ClassVar[tuple[str, ...]] = ("residual",)

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    residual: Planes | None = None
    activation: Activation = IDENTITY

    @staticmethod
    def pack_weights(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the argument "weights".

        Args:
            weight: [channels, 1, height, width].
            bias: [channels].
        """
        taps = weight.reshape(len(weight), -1)
        return np.concatenate([taps, bias[:, None]], 1).astype(np.float32)

    @property
    def description(self) -> str:
        """The kernel's name."""
        return "Depthwise"

    @property
    def as_line(self) -> bool:
        """Whether the plane is taken as one line."""
        pitch = self.output.pitch
        same_pitch = self.input.pitch == pitch and (self.residual is None or self.residual.pitch == pitch)
        vectors = ceil_div(self.output.width, self.lanes) * self.output.height
        line_vectors = ceil_div(self.output.extent, self.lanes)
        return self.stride == (1, 1) and same_pitch and 2 * vectors > 3 * line_vectors

    @property
    def _block_rows(self) -> int:
        """Rows of the output in a block."""
        rows = 7 if self.output.height == 7 else 4
        return min(rows, self.output.height)

    @property
    def _split(self) -> WorkSplit:
        output = self.output
        # A multiply-add is half the work of an element that is copied.
        row_work = output.pitch * max(1, self.kernel[0] * self.kernel[1] // 2)
        block = output.height if self.as_line else self._block_rows
        return WorkSplit.of(output.images, self.input.channels, output.height, row_work, row_multiple=block)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        item = self._split.item(e)
        planes = {"input": self.input, "output": self.output, "residual": self.residual or self.output}
        images = [image_address(e, name, layout, item.image) for name, layout in planes.items()]
        with e.loop(*item.channels) as channel:
            addresses = [
                plane_address(e, image, layout, channel)
                for image, layout in zip(images, planes.values(), strict=True)
            ]
            taps = self.kernel[0] * self.kernel[1]
            row = e.add(e.arg("weights"), e.mul(channel, 4 * (taps + 1)))
            weights = [e.splat(e.load(row, F32, 4 * i)) for i in range(taps + 1)]
            emitter = _ChannelEmitter(e, self, addresses, weights)
            if self.as_line:
                emitter.line()
            else:
                block_loop(e, *item.rows, self.output.height, self._block_rows, emitter.rows)
        return e.text()


class _ChannelEmitter:
    """Writes the code for one channel of one image.

    Args:
        spec: the kernel.
        planes: addresses of the channel's planes: input, output, residual.
        weights: vectors of the taps' weights and, last, of the bias.
    """

    def __init__(
        self, e: Emitter, spec: DepthwiseConvKernel, planes: list[ir.Value], weights: list[ir.Value]
    ) -> None:
        self.e, self.spec = e, spec
        self.input, self.output, self.residual = planes
        self.weights, self.bias = weights[:-1], weights[-1]

    def line(self) -> None:
        """Write a loop over the plane as one line."""
        e, spec = self.e, self.spec
        pitch, step = spec.input.pitch, 4 * spec.lanes
        offsets = [
            4 * ((dy * spec.dilation[0] - spec.padding[0]) * pitch + dx * spec.dilation[1] - spec.padding[1])
            for dy in range(spec.kernel[0])
            for dx in range(spec.kernel[1])
        ]

        def block(first: ir.Value, vectors: int) -> None:
            start = e.mul(first, step)
            source, target = e.add(self.input, start), e.add(self.output, start)
            residual, mask = e.add(self.residual, start), e.add(e.arg("mask"), start)
            accumulators = [self.bias] * vectors
            for offset, weight in zip(offsets, self.weights, strict=True):
                for t in range(vectors):
                    pixels = e.load(source, e.vector, offset + step * t)
                    accumulators[t] = e.fma(pixels, weight, accumulators[t])
            for t, value in enumerate(accumulators):
                if spec.residual:
                    value = e.builder.fadd(value, e.load(residual, e.vector, step * t))
                value = activate(e, value, spec.activation)
                e.store(e.apply_mask(value, e.load(mask, e.mask, step * t)), target, step * t)

        vectors = ceil_div(spec.output.extent, spec.lanes)
        block_loop(e, 0, vectors, vectors, _LINE_VECTORS, block)

    def rows(self, y: ir.Value, count: int) -> None:
        """Write a loop over the vectors of `count` rows of the output, from row y on."""
        e, spec = self.e, self.spec
        top = e.add(e.mul(y, spec.stride[0]), -spec.padding[0])
        corner = e.add(row_address(e, self.input, spec.input, top), -4 * spec.padding[1])
        target = row_address(e, self.output, spec.output, y)
        added = spec.residual
        residual = row_address(e, self.residual, added, y) if added else None

        def body(vector: RowVector) -> None:
            if vector.pixels:
                values = self._sums(e.add(corner, e.mul(vector.x, 4 * spec.stride[1])), count)
            else:
                values = [e.splat(0.0)] * count
            if residual is not None and added is not None:
                address = e.add(residual, e.mul(vector.x, 4))
                loaded = [e.load(address, e.vector, r * added.pitch_bytes) for r in range(count)]
                values = [e.builder.fadd(value, more) for value, more in zip(values, loaded, strict=True)]
            for r, value in enumerate(values):
                value = activate(e, value, spec.activation)
                vector.store(e, value, e.add(target, r * spec.output.pitch_bytes))

        row_loop(e, spec.output.width, spec.output.pitch, body, unroll=1)

    def _sums(self, corner: ir.Value, count: int) -> list[ir.Value]:
        """Return one vector of each of `count` rows; the window of the first row begins at the address `corner`."""
        e, spec = self.e, self.spec
        (height, width), (sy, sx), (dilation_y, dilation_x) = spec.kernel, spec.stride, spec.dilation
        accumulators = [self.bias] * count
        for row in sorted({r * sy + dy * dilation_y for r in range(count) for dy in range(height)}):
            # The rows of the output that read this row of the input, each with the row of its window.
            users = [
                (r, (row - r * sy) // dilation_y) for r in range(count) if (row - r * sy) % dilation_y == 0
            ]
            users = [(r, dy) for r, dy in users if 0 <= dy < height]
            address = e.add(corner, row * spec.input.pitch_bytes)
            for dx in range(width):
                loaded = self._load(address, dx * dilation_x)
                for r, dy in users:
                    weight = self.weights[dy * width + dx]
                    accumulators[r] = e.fma(loaded, weight, accumulators[r])
        return [reorder(e, value) for value in accumulators] if sx == 2 else accumulators

    def _load(self, row: ir.Value, column: int) -> ir.Value:
        """Return every `stride`-th element of a row from a column on; for stride 2 in the order of `every_second`."""
        e, stride = self.e, self.spec.stride[1]
        if stride == 1:
            return e.load(row, e.vector, 4 * column)
        if stride == 2:
            even = column - column % 2
            halves = [e.load(row, e.vector, 4 * (even + i)) for i in (0, e.lanes)]
            return every_second(e, halves, column % 2)
        return gather(e, e.add(row, 4 * column), 4 * stride, e.lanes)
