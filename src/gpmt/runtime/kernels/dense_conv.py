"""Dense convolution: a few filters times a few vectors of pixels are accumulated in registers.

For each tap a vector of pixels is loaded once for all filters of a *group*, and a weight once for all vectors.

Loops: groups of filters of the part → taps → filters of the group → vectors of the tile.

Arguments beside those in `shared/tiled_conv.py`:

    weights  [filter groups, taps, filters of a group]
    bias     [filter groups, filters of a group]
    offsets  int32 [taps]: bytes from the output's pixel to the input's, for all filters
    sizes    int64 [11]: tiles, large tiles, parts, filter groups, filters, taps; bytes from an image to the next of
             input, output and residual; bytes from a channel to the next of output and residual
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.emitter import F32, I32, I64, Emitter
from gpmt.runtime.codegen.tiles import emit_tile
from gpmt.runtime.kernels.shared.filter_groups import pack_filter_groups
from gpmt.runtime.kernels.shared.tiled_conv import TiledConvCode, TiledConvKernel, split_item, tile_address
from gpmt.runtime.layout.planes import FLOAT_BYTES

_ARGS = ("input", "output", "residual", "weights", "bias", "offsets", "mask", "sizes")


@dataclass(frozen=True, kw_only=True)
class DenseCode(TiledConvCode):
    """The parameters of the machine code.

    Attributes:
        filter_group: filters of a group.
    """

    filter_group: int

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, _ARGS)
        sizes = e.int64s("sizes", 11)
        tiles, large, parts, groups = sizes[:4]
        image, tile, part = split_item(e, tiles, parts)
        first = e.builder.udiv(e.builder.mul(part, groups), parts)
        stop = e.builder.udiv(e.builder.mul(e.add(part, 1), groups), parts)

        def body(start: ir.Value, vectors: int) -> None:
            with e.loop(first, stop) as group:
                self._tile(e, sizes[4:], image, group, start, vectors)

        emit_tile(e, tile, large, self.tile_size, self.uneven, body)
        return e.text()

    def _tile(
        self,
        e: Emitter,
        sizes: list[ir.Value],
        image: ir.Value,
        group: ir.Value,
        start: ir.Value,
        vectors: int,
    ) -> None:
        """Write the code for a group of filters on a tile that begins at vector `start` of the plane."""
        filters, taps, input_image, output_image, residual_image, output_plane, residual_plane = sizes
        tile_bytes = e.mul(start, self.offset(1))
        source = tile_address(e, "input", image, input_image, tile_bytes)
        target = tile_address(e, "output", image, output_image, tile_bytes)
        residual = tile_address(e, "residual", image, residual_image, tile_bytes)
        group_bytes = FLOAT_BYTES * self.filter_group
        weights = e.add(e.arg("weights"), e.mul(e.builder.mul(group, taps), group_bytes))
        bias = e.add(e.arg("bias"), e.mul(group, group_bytes))
        offsets, mask = e.arg("offsets"), e.add(e.arg("mask"), tile_bytes)
        accumulators = []
        for f in range(self.filter_group):
            value = e.splat(e.load(bias, F32, FLOAT_BYTES * f))
            accumulators.append([e.variable(value) for _ in range(vectors)])
        with e.loop(0, taps) as tap:
            pixels = e.add(source, e.builder.sext(e.load(e.add(offsets, e.mul(tap, 4)), I32), I64))
            loaded = [e.load(pixels, e.vector, self.offset(t)) for t in range(vectors)]
            tap_weights = e.add(weights, e.mul(tap, group_bytes))
            for f, totals in enumerate(accumulators):
                weight = e.splat(e.load(tap_weights, F32, FLOAT_BYTES * f))
                for value, total in zip(loaded, totals, strict=True):
                    e.builder.store(e.fma(value, weight, e.builder.load(total)), total)
        for f, totals in enumerate(accumulators):
            channel = e.add(e.mul(group, self.filter_group), f)
            # The last group may be filled up with filters that do not exist.
            with e.builder.if_then(e.builder.icmp_signed("<", channel, filters), likely=True):
                out = e.add(target, e.builder.mul(channel, output_plane))
                added = e.add(residual, e.builder.mul(channel, residual_plane))
                for t, total in enumerate(totals):
                    result = e.builder.load(total)
                    if self.residual:
                        result = e.builder.fadd(result, e.load(added, e.vector, self.offset(t)))
                    result = activate(e, result, self.activation)
                    result = e.apply_mask(result, e.load(mask, e.mask, self.offset(t)))
                    e.store(result, out, self.offset(t))


@dataclass(frozen=True, kw_only=True)
class DenseConvKernel(TiledConvKernel):
    """A dense convolution without groups, or a dense linear layer on vectors.

    Attributes:
        filter_group: filters of a group; with the vectors of a tile, they are the accumulators.
        taps: weights of a filter.
    """

    ARGS: ClassVar[tuple[str, ...]] = _ARGS

    filter_group: int
    taps: int

    @property
    def filter_groups(self) -> int:
        """Number of groups of filters."""
        return ceil_div(self.output.channels, self.filter_group)

    @property
    def description(self) -> str:
        """The kernel's name and parameters, for tables."""
        return self.described(bunch=self.filter_group, parts=self.parts)

    @property
    def code(self) -> DenseCode:
        """The parameters of the machine code."""
        return DenseCode(
            lanes=self.lanes, tile_size=self.tiles.size, uneven=self.tiles.uneven,
            residual=self.residual is not None, activation=self.activation, filter_group=self.filter_group,
        )  # fmt: skip

    def sizes(self) -> NDArray[np.int64]:
        """Return the argument "sizes"."""
        counts = (
            self.tiles.count, self.tiles.large, self.parts,
            self.filter_groups, self.output.channels, self.taps,
        )  # fmt: skip
        return np.array([*counts, *self.image_strides, *self.plane_strides], np.int64)

    def pack_weights(
        self, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], ...]:
        """Return the arguments "weights" and "bias".

        Args:
            weight: [filters, taps].
            bias: [filters].
        """
        return pack_filter_groups(weight, bias, self.filter_group)
