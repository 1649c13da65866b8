"""Dense convolution on planes: a few filters times a few vectors of pixels are sums in registers.

For each tap (channel, row, column) a vector of pixels is loaded once for all filters of the *bunch*, and a weight
once for all vectors. Weights are packed [bunch][tap][filter of the bunch]; the taps' offsets are those of every
filter, so a group of a grouped convolution has offsets of its own.

    item = (image · tiles + tile) · parts + part, a part being several bunches
    offsets  int32 [taps]: bytes from the output's pixel to the input's
    bias     float32 [bunches, filters of a bunch]
    numbers  int64 [11]: tiles, large tiles, parts, bunches, filters, taps, bytes from an image of the input, output,
             residual to the next, bytes from a channel of the output, residual to the next
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import F32, I32, I64, Emitter
from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.ir.activation import IDENTITY, Activation


@dataclass(frozen=True)
class DenseCode:
    """What the machine code depends on; layers of all sizes share it.

    Attributes:
        lanes: numbers in a vector.
        size: vectors of a large tile; small ones have one less.
        uneven: whether there are small tiles.
        bunch: filters that are summed at once.
        residual: whether a residual is added.
    """

    ARGS: ClassVar[tuple[str, ...]] = (
        "input",
        "output",
        "residual",
        "weights",
        "bias",
        "offsets",
        "mask",
        "numbers",
    )

    lanes: int
    size: int
    uneven: bool
    bunch: int
    residual: bool = False
    activation: Activation = IDENTITY

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        numbers = [e.load(e.arg(7), I64, 8 * i, align=8) for i in range(11)]
        tiles, many, parts, bunches, *_ = numbers
        place, part = e.builder.udiv(e.item, parts), e.builder.urem(e.item, parts)
        image, tile = e.builder.udiv(place, tiles), e.builder.urem(place, tiles)
        start = e.builder.udiv(e.builder.mul(part, bunches), parts)
        stop = e.builder.udiv(e.builder.mul(e.add(part, 1), bunches), parts)

        def body(first: ir.Value, size: int) -> None:
            with e.loop(start, stop) as bunch:
                self._tile(e, numbers[4:], image, bunch, first, size)

        Tiles.emit(e, tile, many, self.size, self.uneven, body)
        return e.text()

    def _tile(
        self,
        e: Emitter,
        numbers: list[ir.Value],
        image: ir.Value,
        bunch: ir.Value,
        start: ir.Value,
        width: int,
    ) -> None:
        """Sum a bunch of filters on one tile of `width` vectors that begins at vector `start` of a plane."""
        filters, taps, input_image, output_image, residual_image, output_plane, residual_plane = numbers
        step = 4 * self.lanes
        shift = e.mul(start, step)

        def first(arg: int, stride: ir.Value) -> ir.Value:
            return e.add(e.add(e.arg(arg), e.builder.mul(image, stride)), shift)

        source, target, added = first(0, input_image), first(1, output_image), first(2, residual_image)
        weights = e.add(e.arg(3), e.mul(e.builder.mul(bunch, taps), 4 * self.bunch))
        bias, offsets, mask = e.add(e.arg(4), e.mul(bunch, 4 * self.bunch)), e.arg(5), e.add(e.arg(6), shift)
        sums = []
        for f in range(self.bunch):
            begin = e.splat(e.load(bias, F32, 4 * f))
            sums.append([e.variable(begin) for _ in range(width)])
        with e.loop(0, taps) as tap:
            pixels = e.add(source, e.builder.sext(e.load(e.add(offsets, e.mul(tap, 4)), I32), I64))
            loaded = [e.load(pixels, e.vector, step * t) for t in range(width)]
            at = e.add(weights, e.mul(tap, 4 * self.bunch))
            for f, totals in enumerate(sums):
                value = e.splat(e.load(at, F32, 4 * f))
                for number, total in zip(loaded, totals, strict=True):
                    e.builder.store(e.fma(number, value, e.builder.load(total)), total)
        for f, totals in enumerate(sums):
            channel = e.add(e.mul(bunch, self.bunch), f)
            with e.builder.if_then(e.builder.icmp_signed("<", channel, filters), likely=True):
                out = e.add(target, e.builder.mul(channel, output_plane))
                other = e.add(added, e.builder.mul(channel, residual_plane))
                for t, total in enumerate(totals):
                    result = e.builder.load(total)
                    if self.residual:
                        result = e.builder.fadd(result, e.load(other, e.vector, step * t))
                    result = e.activate(result, self.activation)
                    e.store(e.keep(result, e.load(mask, e.mask, step * t)), out, step * t)


@dataclass(frozen=True)
class DenseConvKernel:
    """A layer's way through a kernel; strides in bytes.

    Attributes:
        lanes: numbers in a vector.
        tiles: how a plane is cut.
        bunch: filters that are summed at once.
        images: images in the batch.
        filters: filters of the layer.
        taps: weights of a filter.
        parts: pieces of work that the filters are cut into.
        input_image, output_image, residual_image: bytes from an image to the next.
        output_plane, residual_plane: bytes from a channel to the next.
        residual: whether a residual is added.
    """

    ARGS: ClassVar[tuple[str, ...]] = DenseCode.ARGS

    lanes: int
    tiles: Tiles
    bunch: int
    images: int
    filters: int
    taps: int
    parts: int
    input_image: int
    output_image: int
    output_plane: int
    residual_image: int = 0
    residual_plane: int = 0
    residual: bool = False
    activation: Activation = IDENTITY

    @property
    def bunches(self) -> int:
        """Bunches of filters; the last may be filled up with filters of zeros, which are not written."""
        return ceil_div(self.filters, self.bunch)

    @property
    def items(self) -> int:
        """Pieces of work."""
        return self.images * self.tiles.count * self.parts

    @property
    def code(self) -> DenseCode:
        """What the machine code depends on."""
        tiles = self.tiles
        return DenseCode(self.lanes, tiles.size, tiles.uneven, self.bunch, self.residual, self.activation)

    def numbers(self) -> NDArray[np.int64]:
        """Return the sizes that the kernel reads."""
        tiles = self.tiles
        counts = tiles.count, tiles.many, self.parts, self.bunches, self.filters, self.taps
        strides = (
            self.input_image,
            self.output_image,
            self.residual_image,
            self.output_plane,
            self.residual_plane,
        )
        return np.array([*counts, *strides], np.int64)


def pack(
    weight: NDArray[np.float32], bias: NDArray[np.float32], bunch: int
) -> tuple[NDArray[np.float32], ...]:
    """Return weights [filters, taps] as [bunches, taps, bunch], the bias as [bunches, bunch]; zeros at the end."""
    filters, taps = weight.shape
    bunches = ceil_div(filters, bunch)
    padded = np.zeros((bunches * bunch, taps), np.float32)
    padded[:filters] = weight
    packed = np.ascontiguousarray(padded.reshape(bunches, bunch, taps).transpose(0, 2, 1))
    filled = np.zeros(bunches * bunch, np.float32)
    filled[:filters] = bias
    return packed, filled
