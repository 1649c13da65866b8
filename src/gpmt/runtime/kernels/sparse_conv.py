"""Sparse convolution: for every weight that is not zero, one multiply-add of the pixels of a tile.

A filter's weights come as a *stream* of pairs (offset of the input's pixels, value). The filters are sorted by their
number of weights, so that the processor predicts the ends of the loops well. The input's channels can be taken in
*blocks* that fit the L1 cache; between blocks the accumulators are kept in the output.

Loops: blocks of channels → rows (a row is what a filter has in a block) → pairs → vectors of the tile.

Arguments beside those in `shared/tiled_conv.py`:

    stream  int32 [weights, 2]: offset of the input's pixels in bytes, value (float32)
    rows    int32 [n + 1, 4]: number of pairs, offset of the output's channel in bytes, bias (float32), offset of the
            residual's channel in bytes; a last row of zeros, which is read, but not used
    table   int64 [parts, blocks, 3]: first row, and the one behind the last (both in bytes of `rows`), first pair (in
            bytes of `stream`)
    sizes   int64 [7]: tiles, large tiles, parts, blocks; bytes from an image to the next of input, output and
            residual
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.emitter import F32, I32, I64, Emitter
from gpmt.runtime.codegen.tiles import emit_tile
from gpmt.runtime.kernels.shared.filter_groups import balanced_parts
from gpmt.runtime.kernels.shared.tiled_conv import TiledConvCode, TiledConvKernel, split_item, tile_address
from gpmt.runtime.layout.taps import Taps

_ARGS = ("input", "output", "residual", "stream", "rows", "table", "mask", "sizes")
_ENTRY_BYTES = 24  # of the table, for a part and a block
_ROW_BYTES = 16
_PAIR_BYTES = 8
_CACHE_LINE_BYTES = 64
_MIN_ACCUMULATORS = 8  # which hide the latency of a multiply-add
_MAX_SETS = 4  # of accumulators


@dataclass(frozen=True, kw_only=True)
class SparseCode(TiledConvCode):
    """The parameters of the machine code.

    Attributes:
        passes: 1 for one block of channels, 2 for two, 3 for more.
    """

    passes: int = 1

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, _ARGS)
        tiles, large, parts, blocks, *image_bytes = e.int64s("sizes", 7)
        image, tile, part = split_item(e, tiles, parts)
        entry = e.add(e.arg("table"), e.mul(e.builder.mul(part, blocks), _ENTRY_BYTES))

        def body(start: ir.Value, vectors: int) -> None:
            _TileEmitter(e, self, image, image_bytes, start, vectors).emit(entry, blocks)

        emit_tile(e, tile, large, self.tile_size, self.uneven, body)
        return e.text()


@dataclass(frozen=True, kw_only=True)
class SparseConvKernel(TiledConvKernel):
    """A sparse convolution, or a sparse linear layer on vectors.

    Attributes:
        blocks: into how many blocks the input's channels are split.
    """

    ARGS: ClassVar[tuple[str, ...]] = _ARGS

    blocks: int = 1

    @property
    def description(self) -> str:
        """The kernel's name and parameters, for tables."""
        return self.described(blocks=self.blocks, groups=self.parts)

    @property
    def code(self) -> SparseCode:
        """The parameters of the machine code."""
        return SparseCode(
            lanes=self.lanes, tile_size=self.tiles.size, uneven=self.tiles.uneven,
            residual=self.residual is not None, activation=self.activation, passes=min(self.blocks, 3),
        )  # fmt: skip

    def sizes(self) -> NDArray[np.int64]:
        """Return the argument "sizes"."""
        counts = self.tiles.count, self.tiles.large, self.parts, self.blocks
        return np.array([*counts, *self.image_strides], np.int64)

    def pack_weights(
        self,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        taps: Taps,
    ) -> SparseWeights:
        """Return the arguments "stream", "rows" and "table".

        Args:
            weight: [filters, taps].
            bias: [filters].
            taps: where they read in the input.
        """
        filter_count, tap_count = weight.shape
        flat = np.flatnonzero(weight)
        filters, tap = np.divmod(flat, tap_count)
        channel_count = int(taps.channels[-1]) + 1 if tap_count else 1
        block = taps.channels * self.blocks // channel_count
        # The weights of a filter in a block are neighbours in `flat`; only these stretches have to be ordered.
        counts = np.bincount(filters * self.blocks + block[tap], minlength=filter_count * self.blocks)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]]).reshape(filter_count, self.blocks)
        counts = counts.reshape(filter_count, self.blocks)
        part = balanced_parts(counts.sum(1), self.parts)
        output_plane, residual_plane = self.plane_strides
        rows, firsts, lengths = [], [], []
        table = np.zeros((self.parts, self.blocks, 3), np.int64)
        row_count = pair_count = 0
        for p in range(self.parts):
            members = np.flatnonzero(part == p)
            for b in range(self.blocks):
                # The first block sets the accumulators to the bias, and the last one finishes them. In the blocks
                # between there is nothing to do for filters without weights.
                active = members if b in (0, self.blocks - 1) else members[counts[members, b] > 0]
                active = active[np.argsort(counts[active, b], kind="stable")]
                stop = row_count + len(active)
                table[p, b] = _ROW_BYTES * row_count, _ROW_BYTES * stop, _PAIR_BYTES * pair_count
                block_rows = np.empty((len(active), 4), np.int32)
                block_rows[:, 0] = counts[active, b]
                block_rows[:, 1] = active * output_plane
                block_rows[:, 2] = bias[active].view(np.int32)
                block_rows[:, 3] = active * residual_plane
                rows.append(block_rows)
                firsts.append(first[active, b])
                lengths.append(counts[active, b])
                row_count = stop
                pair_count += int(counts[active, b].sum())
        length = np.concatenate(lengths)
        begin = np.cumsum(length) - length
        order = np.repeat(np.concatenate(firsts) - begin, length) + np.arange(len(flat))
        stream = np.empty((len(flat), 2), np.int32)
        offsets = taps.offsets[tap]
        if taps.filter_offsets is not None:
            offsets = offsets + taps.filter_offsets[filters]
        stream[:, 0] = offsets[order]
        stream[:, 1] = weight.reshape(-1)[flat[order]].view(np.int32)
        rows.append(np.zeros((1, 4), np.int32))
        return SparseWeights(stream, np.concatenate(rows), table)


@dataclass(frozen=True, eq=False)
class SparseWeights:
    """The weights of a layer in the order in which the kernel takes them; the arrays are arguments of the kernel."""

    stream: NDArray[np.int32]
    rows: NDArray[np.int32]
    table: NDArray[np.int64]


class _TileEmitter:
    """Writes the code for all filters of a part on a tile.

    Args:
        code: its parameters.
        image: index of the image.
        image_bytes: from an image to the next of input, output and residual.
        start: the vector of the plane at which the tile begins.
        vectors: of the tile.
    """

    def __init__(
        self,
        e: Emitter,
        code: SparseCode,
        image: ir.Value,
        image_bytes: Sequence[ir.Value],
        start: ir.Value,
        vectors: int,
    ) -> None:
        self.e, self.code, self.vectors = e, code, vectors
        tile_bytes = e.mul(start, code.offset(1))
        self.source, self.target, self.residual = (
            tile_address(e, arg, image, per_image, tile_bytes)
            for arg, per_image in zip(("input", "output", "residual"), image_bytes, strict=True)
        )
        self.mask = e.add(e.arg("mask"), tile_bytes)
        # Several sets of accumulators for small tiles: else each multiply-add would depend on the one before.
        self.sets = max(1, min(_MAX_SETS, _MIN_ACCUMULATORS // vectors)) if vectors < 5 else 1

    def emit(self, entry: ir.Value, blocks: ir.Value) -> None:
        """Write the code, given the address of the part's entries in the table."""
        passes = self.code.passes
        self._block(entry, first=True, last=passes == 1)
        final = self.e.add(blocks, -1)
        if passes > 2:
            with self.e.loop(1, final) as block:
                self._block(self.e.add(entry, self.e.mul(block, _ENTRY_BYTES)), first=False, last=False)
        if passes > 1:
            self._block(self.e.add(entry, self.e.mul(final, _ENTRY_BYTES)), first=False, last=True)

    def _block(self, entry: ir.Value, *, first: bool, last: bool) -> None:
        """Write the loop over the rows of a block, given the address of its entry in the table."""
        e = self.e
        start, stop, stream = (e.load(entry, I64, 8 * i, align=8) for i in range(3))
        pair = e.variable(e.add(e.arg("stream"), stream))
        with e.loop(e.add(e.arg("rows"), start), e.add(e.arg("rows"), stop), _ROW_BYTES) as row:
            target = e.add(self.target, e.builder.sext(e.load(row, I32, 4), I64))
            if last and self.code.residual:
                # The order of the channels is one that the hardware cannot predict: prefetch the next row's residual.
                following = e.add(self.residual, e.builder.sext(e.load(row, I32, _ROW_BYTES + 12), I64))
                for line in range(0, self.code.offset(self.vectors), _CACHE_LINE_BYTES):
                    e.prefetch(following, line)
            if first:
                values = [e.splat(e.load(row, F32, 8))] * self.vectors
            else:
                values = [e.load(target, e.vector, self.code.offset(t)) for t in range(self.vectors)]
            values = self._accumulate(values, pair, e.builder.sext(e.load(row, I32), I64))
            if last:
                values = self._finish(values, row)
            for t, value in enumerate(values):
                e.store(value, target, self.code.offset(t))

    def _accumulate(self, start: list[ir.Value], pair: ir.Value, count: ir.Value) -> list[ir.Value]:
        """Return the start values plus `count` products; `pair` is the variable with the address in the stream."""
        e = self.e
        accumulators = [[e.variable(value) for value in start]]
        accumulators += [[e.variable(e.splat(0.0)) for _ in start] for _ in range(self.sets - 1)]

        def product(address: ir.Value, totals: list[ir.Value], index: int) -> None:
            offset = e.load(address, I32, _PAIR_BYTES * index)
            pixels = e.add(self.source, e.builder.sext(offset, I64))
            weight = e.splat(e.load(address, F32, _PAIR_BYTES * index + 4))
            for t, total in enumerate(totals):
                loaded = e.load(pixels, e.vector, self.code.offset(t))
                e.builder.store(e.fma(loaded, weight, e.builder.load(total)), total)

        begin = e.builder.load(pair)
        end = e.add(begin, e.mul(count, _PAIR_BYTES))
        if self.sets > 1:
            step = _PAIR_BYTES * self.sets
            whole = e.add(begin, e.mul(e.divmod(count, self.sets)[0], step))
            with e.loop(begin, whole, step) as address:
                for index, totals in enumerate(accumulators):
                    product(address, totals, index)
            begin = whole
        with e.loop(begin, end, _PAIR_BYTES) as address:
            product(address, accumulators[0], 0)
        e.builder.store(end, pair)
        results = [e.builder.load(total) for total in accumulators[0]]
        for extra in accumulators[1:]:
            results = [e.builder.fadd(r, e.builder.load(x)) for r, x in zip(results, extra, strict=True)]
        return results

    def _finish(self, values: list[ir.Value], row: ir.Value) -> list[ir.Value]:
        """Add the residual, apply the activation, and set the padding to zero."""
        e, offset = self.e, self.code.offset
        if self.code.residual:
            residual = e.add(self.residual, e.builder.sext(e.load(row, I32, 12), I64))
            values = [e.builder.fadd(v, e.load(residual, e.vector, offset(t))) for t, v in enumerate(values)]
        values = [activate(e, v, self.code.activation) for v in values]
        return [e.apply_mask(v, e.load(self.mask, e.mask, offset(t))) for t, v in enumerate(values)]
