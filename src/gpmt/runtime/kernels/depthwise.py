"""Depthwise convolution: every channel with a small filter of its own.

Two ways to go through a plane. By *rows*: some rows of the output at once, vector by vector along them, so that
what is loaded of the input serves all of these. Through the plane as one *line* of numbers, as the sparse convolution
does, where rows are short and their vectors would be mostly pads; that asks for stride 1 and equal pitches. The zeros
around the image are those of the input's pads and gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.loops import Cut, Index, Piece, Walk, along, stepped
from gpmt.runtime.codegen.shuffles import alternate, gather, straighten
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.layout.planes import Planes

_SUMS = 8  # vectors that are summed at once: enough to hide the latency of a multiply-add


@dataclass(frozen=True)
class DepthwiseConvKernel(Walk):
    """What a kernel is made for.

    Attributes:
        lanes: numbers in a vector.
        input, output: layouts; the input's pads and gap hold the zeros that the windows reach.
        kernel, stride, dilation: (rows, columns).
        padding: (top, left).
        residual: the layout of what is added before the activation.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "residual", "weights", "mask")

    lanes: int
    input: Planes
    output: Planes
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    residual: Planes | None = None
    activation: Activation = IDENTITY

    @property
    def line(self) -> bool:
        """Whether the plane is taken as one line."""
        pitch = self.output.pitch
        same = self.input.pitch == pitch and (self.residual is None or self.residual.pitch == pitch)
        vectors = ceil_div(self.output.width, self.lanes) * self.output.height
        return self.stride == (1, 1) and same and 2 * vectors > 3 * ceil_div(self.output.extent, self.lanes)

    @property
    def _together(self) -> int:
        """Rows of the output that are made at once."""
        rows = 7 if self.output.height == 7 else 4
        return min(rows, self.output.height)

    @property
    def _cut(self) -> Cut:
        # A multiply-add is less work than a number to copy.
        row = self.output.pitch * max(1, self.kernel[0] * self.kernel[1] // 2)
        together = self.output.height if self.line else self._together
        return Cut.of(self.output.images, self.input.channels, self.output.height, row, rows_by=together)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        image, start, stop, first, last = self._cut.of_item(e)
        planes = [self.input, self.output, self.residual or self.output]
        bases = [e.add(e.arg(i), e.mul(image, plane.image_bytes)) for i, plane in enumerate(planes)]
        with e.loop(start, stop) as channel:
            at = [
                e.add(base, e.mul(channel, plane.plane_bytes))
                for base, plane in zip(bases, planes, strict=True)
            ]
            taps = self.kernel[0] * self.kernel[1]
            numbers = e.add(e.arg(3), e.mul(channel, 4 * (taps + 1)))
            weights = [e.splat(e.load(numbers, F32, 4 * i)) for i in range(taps + 1)]
            channel_of = _Channel(e, self, at, weights)
            if self.line:
                channel_of.line()
            else:
                stepped(e, first, last, self.output.height, self._together, channel_of.rows)
        return e.text()


class _Channel:
    """One channel of one image: addresses of its planes (input, output, residual), weights and, last, the bias."""

    def __init__(
        self, e: Emitter, spec: DepthwiseConvKernel, at: list[Index], weights: list[ir.Value]
    ) -> None:
        self.e, self.spec = e, spec
        self.input, self.output, self.residual = at
        self.weights, self.bias = weights[:-1], weights[-1]

    def line(self) -> None:
        """Go through the plane as one line."""
        e, spec = self.e, self.spec
        pitch, lanes = spec.input.pitch, spec.lanes
        places = [
            4 * ((dy * spec.dilation[0] - spec.padding[0]) * pitch + dx * spec.dilation[1] - spec.padding[1])
            for dy in range(spec.kernel[0])
            for dx in range(spec.kernel[1])
        ]

        def tile(start: Index, vectors: int) -> None:
            offset = e.mul(start, 4 * lanes)
            source, target = e.add(self.input, offset), e.add(self.output, offset)
            residual, mask = e.add(self.residual, offset), e.add(e.arg(4), offset)
            sums = [self.bias] * vectors
            for place, weight in zip(places, self.weights, strict=True):
                for t in range(vectors):
                    sums[t] = e.fma(e.load(source, e.vector, place + 4 * lanes * t), weight, sums[t])
            for t, value in enumerate(sums):
                if spec.residual:
                    value = e.builder.fadd(value, e.load(residual, e.vector, 4 * lanes * t))
                value = e.activate(value, spec.activation)
                e.store(e.keep(value, e.load(mask, e.mask, 4 * lanes * t)), target, 4 * lanes * t)

        vectors = ceil_div(spec.output.extent, lanes)
        stepped(e, 0, vectors, vectors, _SUMS, tile)

    def rows(self, y: Index, count: int) -> None:
        """Make `count` rows of the output from row y on."""
        e, spec = self.e, self.spec
        top = e.add(e.mul(y, spec.stride[0]), -spec.padding[0])
        corner = e.add(e.add(self.input, e.mul(top, spec.input.pitch_bytes)), -4 * spec.padding[1])
        target = e.add(self.output, e.mul(y, spec.output.pitch_bytes))
        added = spec.residual
        residual = e.add(self.residual, e.mul(y, added.pitch_bytes)) if added else None

        def body(piece: Piece) -> None:
            if piece.pixels:
                values = self._sums(e.add(corner, e.mul(piece.x, 4 * spec.stride[1])), count)
            else:
                values = [e.splat(0.0)] * count
            if residual is not None and added is not None:
                place = e.add(residual, e.mul(piece.x, 4))
                loaded = [e.load(place, e.vector, 4 * r * added.pitch) for r in range(count)]
                values = [e.builder.fadd(value, more) for value, more in zip(values, loaded, strict=True)]
            for r, value in enumerate(values):
                piece.store(e, e.activate(value, spec.activation), e.add(target, 4 * r * spec.output.pitch))

        along(e, spec.output.width, spec.output.pitch, body, unroll=1)

    def _sums(self, corner: Index, count: int) -> list[ir.Value]:
        """Return the sums of one vector of each of `count` rows; the window of the first begins at `corner`."""
        e, spec = self.e, self.spec
        (high, wide), (sy, sx), (down, right) = spec.kernel, spec.stride, spec.dilation
        sums = [self.bias] * count
        for row in sorted({r * sy + dy * down for r in range(count) for dy in range(high)}):
            users = [(r, (row - r * sy) // down) for r in range(count) if (row - r * sy) % down == 0]
            users = [(r, dy) for r, dy in users if 0 <= dy < high]
            place = e.add(corner, 4 * row * spec.input.pitch)
            for dx in range(wide):
                loaded = self._load(place, dx * right)
                for r, dy in users:
                    sums[r] = e.fma(loaded, self.weights[dy * wide + dx], sums[r])
        return [straighten(e, value) for value in sums] if sx == 2 else sums

    def _load(self, place: Index, column: int) -> ir.Value:
        """Return every `stride`-th number from a column on; for stride 2 in the order of `alternate`."""
        e, step = self.e, self.spec.stride[1]
        if step == 1:
            return e.load(place, e.vector, 4 * column)
        if step == 2:
            even = column - column % 2
            halves = [e.load(place, e.vector, 4 * (even + i)) for i in (0, e.lanes)]
            return alternate(e, halves, column % 2)
        return gather(e, e.add(place, 4 * column), 4 * step, e.lanes)


def pack_weights(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the kernel reads at "weights": the taps and the bias of every channel [channels, taps + 1].

    Args:
        weight: [channels, 1, height, width].
        bias: [channels].
    """
    taps = weight.reshape(len(weight), -1)
    return np.concatenate([taps, bias[:, None]], 1).astype(np.float32)
