"""Images in and out: PyTorch's tensors to planes and back, planes to planes, and the phases of a strided convolution.

All of it is one loop: rows of a source, every `stride`-th number of them, to rows of an output with pads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.arithmetic import ceil_div, round_up
from gpmt.runtime.codegen.emitter import F32, Emitter, constant
from gpmt.runtime.codegen.loops import Cut, Index, Piece, Walk, along, least, most, stepped
from gpmt.runtime.codegen.shuffles import alternate, gather, load_first, straighten, transpose
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.layout.planes import Planes

_ALL: tuple[Pair, ...] = ((0, 0),)
_Address = Callable[[Index], Index]


@dataclass(frozen=True)
class _Rows:
    """The work of this module: sizes of a source, where rows of the output lie, and which phases it takes.

    Attributes:
        height, width: of the source.
        pitch: numbers of a row of the output that are written, pads included.
        strict: whether nothing may be read beyond the source's rows.
    """

    lanes: int
    images: int
    channels: int
    height: int
    width: int
    pitch: int
    stride: Pair
    phases: tuple[Pair, ...]
    strict: bool

    @property
    def rows(self) -> int:
        """Rows of the output."""
        return ceil_div(self.height, self.stride[0])

    def cut(self, by: int = 1) -> Cut:
        work = self.width * self.stride[0] + self.pitch * len(self.phases)
        return Cut.of(self.images, self.channels, self.rows, work // 2, by=by)

    def emit(
        self, e: Emitter, first: Index, last: Index, source: _Address, output: Callable[[Index, int], Index]
    ) -> None:
        """Write the rows from `first` to `last` of a channel.

        Args:
            source: returns the address of a row of the source.
            output: returns the address of a row of the i-th phase.
        """
        whole, rest = divmod(self.height, self.stride[0])
        with e.loop(first, least(e, last, constant(whole))) as y:
            self._row(e, y, self.stride[0], source, output)
        if rest:
            with e.loop(most(e, first, constant(whole)), last) as y:
                self._row(e, y, rest, source, output)

    def _row(
        self, e: Emitter, y: Index, inside: int, source: _Address, output: Callable[[Index, int], Index]
    ) -> None:
        sy, sx = self.stride
        wide = ceil_div(self.width, sx)
        targets = [output(y, i) for i in range(len(self.phases))]
        for ry in sorted({row for row, _ in self.phases}):
            mine = [(rx, targets[i]) for i, (row, rx) in enumerate(self.phases) if row == ry]
            if ry >= inside:
                along(e, 0, self.pitch, lambda piece, mine=mine: _zeros(e, piece, mine))  # type: ignore[misc]
                continue
            row = source(e.add(e.mul(y, sy), ry))

            def body(piece: Piece, row: Index = row, mine: list[tuple[int, Index]] = mine) -> None:
                self._piece(e, piece, row, mine)

            along(e, wide, self.pitch, body, whole=self.width // (sx * self.lanes))

    def _piece(self, e: Emitter, piece: Piece, row: Index, phases: list[tuple[int, Index]]) -> None:
        (_, sx), lanes = self.stride, self.lanes
        address = e.add(row, e.mul(piece.x, 4 * sx))
        known = isinstance(piece.x, ir.Constant)
        left = sx * lanes if piece.pixels else 0
        if known:
            left = max(0, self.width - sx * piece.x.constant)

        def load(start: int) -> ir.Value:
            count = max(0, min(lanes, left - start))
            return (
                e.load(address, e.vector, 4 * start)
                if count and not self.strict
                else load_first(e, address, count, 4 * start)
            )

        halves = [load(0), load(lanes)] if sx == 2 and piece.pixels else []
        for rx, target in phases:
            pixels = max(0, min(lanes, ceil_div(left - rx, sx)))
            if not pixels:
                value = e.splat(0.0)
            elif sx == 1:
                value = load(0)
            elif sx == 2:
                value = straighten(e, alternate(e, halves, rx))
            else:
                value = gather(e, e.add(address, 4 * rx), 4 * sx, pixels)
            Piece(piece.x, pixels, piece.room).store(e, value, target)

    def emit_scattered(
        self,
        e: Emitter,
        first: Index,
        last: Index,
        step: Index,
        source: _Address,
        output: Callable[[Index, int], Index],
    ) -> None:
        """Write the rows of a channel whose numbers lie `step` bytes apart."""
        sy, sx = self.stride
        with e.loop(first, last) as y:
            for i, (ry, rx) in enumerate(self.phases):
                target = output(y, i)
                along(e, 0, self.pitch, lambda piece, target=target: _zeros(e, piece, [(0, target)]))  # type: ignore[misc]
                start = e.add(e.mul(y, sy), ry)
                columns = max(0, ceil_div(self.width - rx, sx))
                inside = e.builder.icmp_signed("<", start, constant(self.height))
                row = source(start)
                with e.loop(0, e.builder.select(inside, constant(columns), constant(0))) as x:
                    place = e.builder.mul(e.add(e.mul(x, sx), rx), step)
                    e.store(e.load(e.add(row, place), F32), e.add(target, e.mul(x, 4)))


def _zeros(e: Emitter, piece: Piece, phases: list[tuple[int, Index]]) -> None:
    for _, target in phases:
        piece.store(e, e.splat(0.0), target)


def _output(
    e: Emitter, output: Planes, base: Index, channel: Index, phases: int
) -> Callable[[Index, int], Index]:
    """Return what gives the address of a row of a phase of an input's channel."""
    first = e.add(base, e.mul(channel, output.plane_bytes * phases))
    return lambda y, i: e.add(e.add(first, e.mul(y, output.pitch_bytes)), 4 * i * output.plane_stride)


@dataclass(frozen=True)
class PhasesKernel(Walk):
    """Planes to planes, each phase of the stride's a channel: c · len(phases) + i holds rows and columns of phase i.

    Pixel (y, x) of phase (ry, rx) is pixel (y · sy + ry, x · sx + rx) of the input, or 0 outside of it. The output
    has at least len(phases) channels for each one of the input, and ceil(size / stride) rows and columns.

    Attributes:
        stride: (sy, sx); with (1, 1) it is a copy from one pitch to another.
        phases: (ry, rx) of those that are wanted.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes
    output: Planes
    stride: Pair = (1, 1)
    phases: tuple[Pair, ...] = _ALL

    @property
    def _cut(self) -> Cut:
        return self._rows.cut()

    @property
    def _rows(self) -> _Rows:
        source = self.input
        return _Rows(
            self.lanes, source.images, source.channels, source.height, source.width,
            self.output.pitch, self.stride, self.phases, strict=False,
        )  # fmt: skip

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        image, start, stop, first, last = self._cut.of_item(e)
        source = e.add(e.arg(0), e.mul(image, self.input.image_bytes))
        output = e.add(e.arg(1), e.mul(image, self.output.image_bytes))
        with e.loop(start, stop) as channel:
            plane = e.add(source, e.mul(channel, self.input.plane_bytes))
            target = _output(e, self.output, output, channel, len(self.phases))
            self._rows.emit(e, first, last, lambda y: e.add(plane, e.mul(y, self.input.pitch_bytes)), target)
        return e.text()


@dataclass(frozen=True)
class ImportImagesKernel(Walk):
    """A tensor [images, channels, height, width] of any strides (bytes, given when it runs) to planes, or to phases.

    Attributes:
        channels, height, width: of the tensor; the images are the output's.
        stride, phases: as in `PhasesKernel`.
    """

    ARGS: ClassVar[tuple[str, ...]] = (
        "input", "output", "stride_n", "stride_c", "stride_h", "stride_w",
    )  # fmt: skip

    lanes: int
    channels: int
    height: int
    width: int
    output: Planes
    stride: Pair = (1, 1)
    phases: tuple[Pair, ...] = _ALL

    @property
    def _squares(self) -> bool:
        """Whether channels-last tensors are worth a way of their own."""
        return self.stride == (1, 1) and self.channels >= 4

    @property
    def _cut(self) -> Cut:
        return self._rows.cut(by=16 if self._squares else 1)

    @property
    def _rows(self) -> _Rows:
        return _Rows(
            self.lanes, self.output.images, self.channels, self.height, self.width,
            self.output.pitch, self.stride, self.phases, strict=True,
        )  # fmt: skip

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        image, start, stop, first, last = self._cut.of_item(e)
        by_image, by_channel, by_row, by_column = (e.arg(i) for i in range(2, 6))
        source = e.add(e.arg(0), e.builder.mul(image, by_image))
        output = e.add(e.arg(1), e.mul(image, self.output.image_bytes))

        def planes(scattered: bool) -> None:
            with e.loop(start, stop) as channel:
                plane = e.add(source, e.builder.mul(channel, by_channel))
                target = _output(e, self.output, output, channel, len(self.phases))

                def row(y: Index) -> Index:
                    return e.add(plane, e.builder.mul(y, by_row))

                if scattered:
                    self._rows.emit_scattered(e, first, last, by_column, row, target)
                else:
                    self._rows.emit(e, first, last, row, target)

        with e.builder.if_else(e.builder.icmp_signed("==", by_column, constant(4))) as (dense, other):
            with dense:
                planes(scattered=False)
            with other:
                if self._squares:
                    last_channels = e.builder.icmp_signed("==", by_channel, constant(4))
                    with e.builder.if_else(last_channels) as (channels_last, any_strides):
                        with channels_last:
                            self._transposed(e, source, output, (start, stop, first, last), by_row, by_column)
                        with any_strides:
                            planes(scattered=True)
                else:
                    planes(scattered=True)
        return e.text()

    def _transposed(
        self,
        e: Emitter,
        source: Index,
        output: Index,
        part: tuple[Index, Index, Index, Index],
        by_row: Index,
        by_column: Index,
    ) -> None:
        """Write squares of `lanes` channels and pixels."""
        start, stop, first, last = part

        def square(y: Index, x: Index, pixels: int, channel: Index, channels: int) -> None:
            place = e.add(
                e.add(source, e.builder.mul(y, by_row)), e.add(e.builder.mul(x, by_column), e.mul(channel, 4))
            )
            rows = []
            for i in range(self.lanes):
                rows.append(load_first(e, place, channels) if i < pixels else e.splat(0.0))
                place = e.add(place, by_column)
            row = e.add(
                output, e.add(e.mul(channel, self.output.plane_bytes), e.mul(y, self.output.pitch_bytes))
            )
            room = (
                self.lanes
                if pixels == self.lanes
                else min(self.lanes, self.output.pitch - (self.width - pixels))
            )
            for i, column in enumerate(transpose(e, rows)[:channels]):
                Piece(x, pixels, room).store(e, column, e.add(row, 4 * i * self.output.plane_stride))

        with e.loop(first, last) as y:

            def columns(x: Index, pixels: int, y: Index = y) -> None:
                stepped(
                    e, start, stop, self.channels, self.lanes, lambda c, count: square(y, x, pixels, c, count)
                )

            stepped(e, 0, self.width, self.width, self.lanes, columns)
            # Pads that the last vector does not reach.
            begin = round_up(self.width, self.lanes)
            row = e.add(output, e.mul(y, self.output.pitch_bytes))
            with e.loop(start, stop) as channel:
                plane = e.add(row, e.mul(channel, self.output.plane_bytes))
                for x0 in range(begin, self.output.pitch, self.lanes):
                    Piece(constant(x0), 0, min(self.lanes, self.output.pitch - x0)).store(
                        e, e.splat(0.0), plane
                    )


@dataclass(frozen=True)
class ExportImagesKernel(Walk):
    """Planes to a contiguous tensor [images, channels, height, width]."""

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes

    @property
    def _cut(self) -> Cut:
        return self._rows.cut()

    @property
    def _rows(self) -> _Rows:
        source = self.input
        return _Rows(
            self.lanes, source.images, source.channels, source.height, source.width,
            source.width, (1, 1), _ALL, strict=False,
        )  # fmt: skip

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        size = 4 * self.input.height * self.input.width
        image, start, stop, first, last = self._cut.of_item(e)
        source = e.add(e.arg(0), e.mul(image, self.input.image_bytes))
        output = e.add(e.arg(1), e.mul(image, size * self.input.channels))
        with e.loop(start, stop) as channel:
            plane, target = (
                e.add(source, e.mul(channel, self.input.plane_bytes)),
                e.add(output, e.mul(channel, size)),
            )
            self._rows.emit(
                e, first, last,
                lambda y: e.add(plane, e.mul(y, self.input.pitch_bytes)),
                lambda y, _: e.add(target, e.mul(y, 4 * self.input.width)),
            )  # fmt: skip
        return e.text()
