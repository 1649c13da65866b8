"""Sparse convolution: for every filter, one multiply-add of a stretch of pixels for each weight that is not zero.

The pixels of a plane are cut into *tiles* of a few vectors, which are sums in registers; a filter's weights come as a
*stream* of pairs (offset of the input's pixels in bytes, value). Filters are sorted by their number of weights, so
that the processor foresees the ends of the loops. Input channels can be taken in *blocks* that fit the first-level
cache, with the sums kept in the output meanwhile; filters can be cut into *groups*, for several threads.

    item = (image · tiles + tile) · groups + group
    rows     int32 [n, 4]: weights, output offset in bytes, bias (float32), residual offset in bytes
    table    int64 [groups, blocks, 3]: first row, last row + 1 (in bytes of rows), first pair (in bytes of stream)
    numbers  int64 [7]: tiles, large tiles, groups, blocks; bytes from image to image of input, output, residual
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.runtime.codegen.emitter import F32, I32, I64, Emitter
from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.ir.activation import IDENTITY, Activation

_ENTRY = 24  # bytes of the table for a group and block
_ROW = 16  # bytes of a row


@dataclass(frozen=True)
class SparseCode:
    """What the machine code depends on; layers of all sizes share it.

    Attributes:
        lanes: numbers in a vector.
        size: vectors of a large tile; small ones have one less.
        uneven: whether there are small tiles.
        passes: 1 for one block, 2 for two, 3 for more.
        residual: whether a residual is added.
    """

    ARGS: ClassVar[tuple[str, ...]] = (
        "input",
        "output",
        "residual",
        "stream",
        "rows",
        "table",
        "mask",
        "numbers",
    )

    lanes: int
    size: int
    uneven: bool = False
    passes: int = 1
    residual: bool = False
    activation: Activation = IDENTITY

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        tiles, many, groups, blocks, *_ = (e.load(e.arg(7), I64, 8 * i, align=8) for i in range(4))
        place, group = e.builder.udiv(e.item, groups), e.builder.urem(e.item, groups)
        image, tile = e.builder.udiv(place, tiles), e.builder.urem(place, tiles)
        entry = e.add(e.arg(5), e.mul(e.builder.mul(group, blocks), _ENTRY))

        def body(start: ir.Value, size: int) -> None:
            _Tile(e, self, image, start, size).emit(entry, blocks)

        Tiles.emit(e, tile, many, self.size, self.uneven, body)
        return e.text()


@dataclass(frozen=True)
class SparseConvKernel:
    """A layer's way through a kernel; strides in bytes.

    Attributes:
        lanes: numbers in a vector.
        tiles: how a plane is cut.
        images: images in the batch.
        groups, blocks: parts of the filters and of the input channels.
        input_image, output_image, residual_image: bytes from an image to the next.
        residual: whether a residual is added.
    """

    ARGS: ClassVar[tuple[str, ...]] = SparseCode.ARGS

    lanes: int
    tiles: Tiles
    images: int
    groups: int
    blocks: int
    input_image: int
    output_image: int
    residual_image: int = 0
    residual: bool = False
    activation: Activation = IDENTITY

    @property
    def items(self) -> int:
        """Pieces of work."""
        return self.images * self.tiles.count * self.groups

    @property
    def code(self) -> SparseCode:
        """What the machine code depends on."""
        tiles = self.tiles
        return SparseCode(
            self.lanes, tiles.size, tiles.uneven, min(self.blocks, 3), self.residual, self.activation
        )

    def numbers(self) -> NDArray[np.int64]:
        """Return the sizes that the kernel reads."""
        strides = self.input_image, self.output_image, self.residual_image
        return np.array([self.tiles.count, self.tiles.many, self.groups, self.blocks, *strides], np.int64)


class _Tile:
    """All filters of a group on one tile of `width` vectors that begins at vector `start` of a plane."""

    def __init__(self, e: Emitter, code: SparseCode, image: ir.Value, start: ir.Value, width: int) -> None:
        self.e, self.code, self.width = e, code, width
        offset = e.mul(start, 4 * code.lanes)

        def first(arg: int, number: int) -> ir.Value:
            stride = e.load(e.arg(7), I64, 8 * number, align=8)
            return e.add(e.add(e.arg(arg), e.builder.mul(image, stride)), offset)

        self.source, self.target, self.residual = first(0, 4), first(1, 5), first(2, 6)
        self.mask = e.add(e.arg(6), offset)
        # Few vectors: several sums for each, or every multiply-add would wait for the one before.
        self.ways = max(1, min(4, 8 // width)) if width < 5 else 1

    def emit(self, entry: ir.Value, blocks: ir.Value) -> None:
        passes = self.code.passes
        self._block(entry, first=True, last=passes == 1)
        final = self.e.add(blocks, -1)
        if passes > 2:
            with self.e.loop(1, final) as block:
                self._block(self.e.add(entry, self.e.mul(block, _ENTRY)), first=False, last=False)
        if passes > 1:
            self._block(self.e.add(entry, self.e.mul(final, _ENTRY)), first=False, last=True)

    def _block(self, entry: ir.Value, *, first: bool, last: bool) -> None:
        e = self.e
        start, stop, stream = (e.load(entry, I64, 8 * i, align=8) for i in range(3))
        pairs = e.variable(e.add(e.arg(3), stream))
        with e.loop(e.add(e.arg(4), start), e.add(e.arg(4), stop), _ROW) as row:
            out = e.add(self.target, e.builder.sext(e.load(row, I32, 4), I64))
            if last and self.code.residual:
                # Rows come in no order that the processor could foresee: the next one's residual is asked for now.
                following = e.add(self.residual, e.builder.sext(e.load(row, I32, 28), I64))
                for line in range(0, self._at(self.width), 64):
                    e.prefetch(following, line)
            if first:
                begin = [e.splat(e.load(row, F32, 8))] * self.width
            else:
                begin = [e.load(out, e.vector, self._at(t)) for t in range(self.width)]
            sums = self._sum(begin, pairs, e.builder.sext(e.load(row, I32), I64))
            if last:
                sums = self._finish(sums, row)
            for t, total in enumerate(sums):
                e.store(total, out, self._at(t))

    def _sum(self, begin: list[ir.Value], pairs: ir.Value, count: ir.Value) -> list[ir.Value]:
        """Add `count` products to sums; `pairs` is the variable that runs through the stream."""
        e = self.e
        sums = [[e.variable(value) for value in begin]]
        sums += [[e.variable(e.splat(0.0)) for _ in begin] for _ in range(self.ways - 1)]

        def product(pair: ir.Value, totals: list[ir.Value], which: int) -> None:
            pixels = e.add(self.source, e.builder.sext(e.load(pair, I32, 8 * which), I64))
            value = e.splat(e.load(pair, F32, 8 * which + 4))
            for t, total in enumerate(totals):
                loaded = e.load(pixels, e.vector, self._at(t))
                e.builder.store(e.fma(loaded, value, e.builder.load(total)), total)

        start = e.builder.load(pairs)
        end = e.add(start, e.mul(count, 8))
        if self.ways > 1:
            whole = e.mul(e.divmod(count, self.ways)[0], 8 * self.ways)
            whole = e.add(start, whole)
            with e.loop(start, whole, 8 * self.ways) as pair:
                for which, totals in enumerate(sums):
                    product(pair, totals, which)
            start = whole
        with e.loop(start, end, 8) as pair:
            product(pair, sums[0], 0)
        e.builder.store(end, pairs)
        results = [e.builder.load(total) for total in sums[0]]
        for extra in sums[1:]:
            results = [e.builder.fadd(r, e.builder.load(x)) for r, x in zip(results, extra, strict=True)]
        return results

    def _finish(self, sums: list[ir.Value], row: ir.Value) -> list[ir.Value]:
        """Add the residual, activate, and set the pads to zero."""
        e = self.e
        if self.code.residual:
            added = e.add(self.residual, e.builder.sext(e.load(row, I32, 12), I64))
            sums = [e.builder.fadd(r, e.load(added, e.vector, self._at(t))) for t, r in enumerate(sums)]
        sums = [e.activate(r, self.code.activation) for r in sums]
        return [e.keep(r, e.load(self.mask, e.mask, self._at(t))) for t, r in enumerate(sums)]

    def _at(self, vector: int) -> int:
        return 4 * self.code.lanes * vector


@dataclass(frozen=True, eq=False)
class Stream:
    """The weights of a layer in the order in which a kernel takes them; the arrays are as this module's text says."""

    stream: NDArray[np.int32]
    rows: NDArray[np.int32]
    table: NDArray[np.int64]


def arrange(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    offsets: NDArray[np.int64],
    channel: NDArray[np.int64],
    *,
    channels: int,
    blocks: int,
    groups: int,
    output_plane: int,
    residual_plane: int = 0,
    shift: NDArray[np.int64] | None = None,
) -> Stream:
    """Order the weights of a layer for a kernel.

    Args:
        weight: [filters, taps].
        bias: [filters].
        offsets: [taps], the bytes from the output's pixel to the input's.
        channel: [taps], the channel of each tap, not descending.
        channels: how many the input has.
        blocks, groups: as in `SparseConvKernel`.
        output_plane, residual_plane: bytes from a channel to the next.
        shift: [filters], bytes to add to the offsets of a filter, for grouped convolutions.
    """
    total, taps = weight.shape
    flat = np.flatnonzero(weight)
    filters, tap = np.divmod(flat, taps)
    block = channel * blocks // channels
    # The weights of a filter and block follow each other, so that only these runs have to be put in order.
    counts = np.bincount(filters * blocks + block[tap], minlength=total * blocks).reshape(total, blocks)
    begins = np.concatenate([[0], np.cumsum(counts.ravel())[:-1]]).reshape(total, blocks)
    group = _deal(counts.sum(1), groups)
    rows, begin, length = [], [], []
    table = np.zeros((groups, blocks, 3), np.int64)
    done = pairs = 0
    for g in range(groups):
        members = np.flatnonzero(group == g)
        for b in range(blocks):
            # In the blocks between, sums neither begin nor end: filters without weights have nothing to do.
            active = members if b in (0, blocks - 1) else members[counts[members, b] > 0]
            active = active[np.argsort(counts[active, b], kind="stable")]
            table[g, b] = _ROW * done, _ROW * (done + len(active)), 8 * pairs
            part = np.empty((len(active), 4), np.int32)
            part[:, 0] = counts[active, b]
            part[:, 1] = active * output_plane
            part[:, 2] = bias[active].view(np.int32)
            part[:, 3] = active * residual_plane
            rows.append(part)
            begin.append(begins[active, b])
            length.append(counts[active, b])
            done += len(active)
            pairs += int(counts[active, b].sum())
    lengths = np.concatenate(length)
    firsts = np.cumsum(lengths) - lengths
    order = np.repeat(np.concatenate(begin) - firsts, lengths) + np.arange(len(flat))
    stream = np.empty((len(flat), 2), np.int32)
    stream[:, 0] = (offsets[tap] if shift is None else offsets[tap] + shift[filters])[order]
    stream[:, 1] = weight.reshape(-1)[flat[order]].view(np.int32)
    rows.append(np.zeros((1, 4), np.int32))  # is read, as the one that follows, but not used
    return Stream(stream, np.concatenate(rows), table)


def _deal(weights: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """Deal filters to groups [filters] so that their work is equal: heaviest first, there and back."""
    lap = np.arange(len(weights)) % (2 * groups)
    group = np.empty(len(weights), np.int64)
    group[np.argsort(-weights, kind="stable")] = np.where(lap < groups, lap, 2 * groups - 1 - lap)
    return group
