"""Dense convolution on planes: a few filters times a few vectors of pixels are sums in registers.

For each tap (channel, row, column) a vector of pixels is loaded once for all filters of the *bunch*, and a weight
once for all vectors. Weights are packed [bunch][tap][filter of the bunch]; the taps' offsets are those of every
filter, so a group of a grouped convolution has offsets of its own.

    item = ((image · tiles + tile) · parts + part), a part being several bunches
    offsets  int32 [groups of the convolution, taps]: bytes from the output's pixel to the input's
    bias     float32 [bunches, filters of a bunch]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.runtime.graph import IDENTITY, Activation
from gpmt.runtime.kernels.emit import F32, I32, I64, Emitter, constant


@dataclass(frozen=True)
class DenseConv:
    """What a kernel is made for; strides in bytes.

    Attributes:
        lanes: numbers in a vector.
        tile: the most vectors that are summed at once.
        bunch: filters that are summed at once.
        vectors: vectors in a plane.
        images: images in the batch.
        filters: filters of the layer.
        taps: weights of a filter.
        parts: pieces of work that the filters are cut into.
        input_image, output_image, residual_image: bytes from an image to the next.
        output_plane, residual_plane: bytes from a channel to the next.
        residual: whether a residual is added.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "residual", "weights", "bias", "offsets", "mask")

    lanes: int
    tile: int
    bunch: int
    vectors: int
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
    def tiles(self) -> int:
        """Tiles of a plane."""
        return -(-self.vectors // self.tile)

    @property
    def bunches(self) -> int:
        """Bunches of filters; the last may be filled up with filters of zeros, which are not written."""
        return -(-self.filters // self.bunch)

    @property
    def items(self) -> int:
        """Pieces of work."""
        return self.images * self.tiles * self.parts

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        place, part = e.divmod(e.item, self.parts)
        image, tile = e.divmod(place, self.tiles)
        start, _ = e.divmod(e.mul(part, self.bunches), self.parts)
        stop, _ = e.divmod(e.mul(e.add(part, 1), self.bunches), self.parts)
        size = -(-self.vectors // self.tiles)
        many = self.vectors - (size - 1) * self.tiles
        with e.loop(start, stop) as bunch:
            if many == self.tiles:
                self._tile(e, image, bunch, e.mul(tile, size), size)
            else:
                with e.builder.if_else(e.builder.icmp_signed("<", tile, constant(many))) as (large, small):
                    with large:
                        self._tile(e, image, bunch, e.mul(tile, size), size)
                    with small:
                        self._tile(e, image, bunch, e.add(e.mul(tile, size - 1), many), size - 1)
        return e.text()

    def _tile(self, e: Emitter, image: ir.Value, bunch: ir.Value, start: ir.Value, width: int) -> None:
        step = 4 * self.lanes
        shift = e.mul(start, step)
        source = e.add(e.add(e.arg(0), e.mul(image, self.input_image)), shift)
        weights = e.add(e.arg(3), e.mul(bunch, 4 * self.bunch * self.taps))
        bias = e.add(e.arg(4), e.mul(bunch, 4 * self.bunch))
        offsets = e.arg(5)
        sums = []
        for f in range(self.bunch):
            begin = e.splat(e.load(bias, F32, 4 * f))
            sums.append([e.variable(begin) for _ in range(width)])
        with e.loop(0, self.taps) as tap:
            pixels = e.add(source, e.builder.sext(e.load(e.add(offsets, e.mul(tap, 4)), I32), I64))
            loaded = [e.load(pixels, e.vector, step * t) for t in range(width)]
            at = e.add(weights, e.mul(tap, 4 * self.bunch))
            for f, totals in enumerate(sums):
                value = e.splat(e.load(at, F32, 4 * f))
                for number, total in zip(loaded, totals, strict=True):
                    e.builder.store(e.fma(number, value, e.builder.load(total)), total)
        mask = e.add(e.arg(6), shift)
        for f, totals in enumerate(sums):
            filter_ = e.add(e.mul(bunch, self.bunch), f)
            with e.builder.if_then(e.builder.icmp_signed("<", filter_, constant(self.filters)), likely=True):
                out = e.add(e.add(e.arg(1), e.mul(image, self.output_image)), shift)
                out = e.add(out, e.mul(filter_, self.output_plane))
                results = [e.builder.load(total) for total in totals]
                if self.residual:
                    added = e.add(e.add(e.arg(2), e.mul(image, self.residual_image)), shift)
                    added = e.add(added, e.mul(filter_, self.residual_plane))
                    results = [
                        e.builder.fadd(r, e.load(added, e.vector, step * t)) for t, r in enumerate(results)
                    ]
                for t, result in enumerate(results):
                    value = e.activate(result, self.activation)
                    e.store(e.keep(value, e.load(mask, e.mask, step * t)), out, step * t)


def pack(weight: NDArray[np.float32], bias: NDArray[np.float32], bunch: int) -> tuple[NDArray[np.float32], ...]:
    """Return weights [filters, taps] as [bunches, taps, bunch], and the bias as [bunches, bunch], with zeros at the end."""
    filters, taps = weight.shape
    bunches = -(-filters // bunch)
    padded = np.zeros((bunches * bunch, taps), np.float32)
    padded[:filters] = weight
    packed = np.ascontiguousarray(padded.reshape(bunches, bunch, taps).transpose(0, 2, 1))
    filled = np.zeros(bunches * bunch, np.float32)
    filled[:filters] = bias
    return packed, filled
