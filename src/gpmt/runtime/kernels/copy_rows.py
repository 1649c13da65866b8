"""Rows of planes copied to another pitch: between images and tokens, and parts of tokens; or put among constants.

Loops: channel → row → vectors of the row.

    input     planes, from the first row that is copied
    output    planes, from the first row that is written
    constant  [channels, columns of a row], is added; or not given

    item = image · channel parts + channel part

Writes the rows with the zeros behind them, and zeros up to the end of the last cache line of a plane; nothing else.
Reads whole vectors behind a row of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.arithmetic import ceil_div, round_up
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.loops import RowVector, row_loop
from gpmt.runtime.codegen.shuffles import load_first, store_first
from gpmt.runtime.layout.planes import CACHE_LINE, FLOAT_BYTES

_ITEM_ELEMENTS = 1 << 15


@dataclass(frozen=True)
class Rows:
    """Where rows are, in elements.

    Attributes:
        image, plane, row: from an image, a channel and a row to the next.
    """

    image: int
    plane: int
    row: int


@dataclass(frozen=True)
class CopyRowsKernel(FixedSizeKernel):
    """A copy of rows.

    Attributes:
        lanes: elements of a vector register.
        input, output: where their rows are.
        images, channels, rows: that are written.
        width: columns that are copied of a row.
        written: columns that are written of a row; those without a copy are zeros, or the constant alone.
        first: the column of the output that takes the first column of the input.
        tail: from so many elements of a plane on, zeros are written up to the end of a cache line, behind the last
            row of the last image; -1 where that is not behind a row.
        skipped: columns of the input before those that are copied.
        constant: whether a constant is added.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "constant")
    OPTIONAL_ARGS: ClassVar[tuple[str, ...]] = ("constant",)

    lanes: int
    input: Rows
    output: Rows
    images: int
    channels: int
    rows: int
    width: int
    written: int
    first: int = 0
    tail: int = -1
    skipped: int = 0
    constant: bool = False

    @property
    def _channel_part(self) -> int:
        return max(
            1, min(self.channels, _ITEM_ELEMENTS // (self.rows * self.written), ceil_div(self.channels, 8))
        )

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.images * ceil_div(self.channels, self._channel_part)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        size = self._channel_part
        image, part = e.divmod(e.item, ceil_div(self.channels, size))
        first = e.mul(part, size)
        stop = e.minimum(e.add(first, size), ir.Constant(first.type, self.channels))
        with e.loop(first, stop) as channel:
            source, target = (
                e.add(e.arg(name), _bytes(e, (image, rows.image), (channel, rows.plane)))
                for name, rows in (("input", self.input), ("output", self.output))
            )
            with e.loop(0, self.rows) as y:
                self._row(
                    e,
                    e.add(e.add(source, FLOAT_BYTES * self.skipped), _bytes(e, (y, self.input.row))),
                    e.add(target, _bytes(e, (y, self.output.row))),
                    e.add(e.arg("constant"), e.mul(channel, FLOAT_BYTES * self.written)),
                )
            if self.tail >= 0:
                self._zeros(e, e.add(e.arg("output"), _bytes(e, (channel, self.output.plane))), image)
        return e.text()

    def _row(self, e: Emitter, source: ir.Value, target: ir.Value, constant: ir.Value) -> None:
        """Write a row; the parts of a constant before and behind the copy are rows of their own."""
        if not self.constant:
            assert not self.first

            def copy(vector: RowVector) -> None:
                if vector.pixels:
                    value = e.load(e.add(source, e.mul(vector.x, FLOAT_BYTES)), e.vector)
                    vector.store(e, value, target)
                else:
                    vector.store(e, e.splat(0.0), target)

            row_loop(e, self.width, self.written, copy)
            return
        behind = self.first + self.width
        for start, stop, copied in (
            (0, self.first, False),
            (self.first, behind, True),
            (behind, self.written, False),
        ):
            self._sum(e, source if copied else None, target, constant, start, stop)

    def _sum(
        self, e: Emitter, source: ir.Value | None, target: ir.Value, constant: ir.Value, start: int, stop: int
    ) -> None:
        if start == stop:
            return
        target, constant = (e.add(address, FLOAT_BYTES * start) for address in (target, constant))

        def vector(part: RowVector) -> None:
            offset = e.mul(part.x, FLOAT_BYTES)
            value = load_first(e, e.add(constant, offset), part.in_row)
            if source is not None:
                value = e.builder.fadd(value, e.load(e.add(source, offset), e.vector))
            store_first(e, value, e.add(target, offset), part.in_row)

        row_loop(e, stop - start, stop - start, vector)

    def _zeros(self, e: Emitter, plane: ir.Value, image: ir.Value) -> None:
        count = round_up(self.tail, CACHE_LINE) - self.tail
        last = e.builder.icmp_signed("==", image, ir.Constant(image.type, self.images - 1))
        with e.builder.if_then(last):
            for start in range(0, count, self.lanes):
                size = min(self.lanes, count - start)
                store_first(e, e.splat(0.0), plane, size, FLOAT_BYTES * (self.tail + start))


def _bytes(e: Emitter, *parts: tuple[ir.Value, int]) -> ir.Value:
    """Return the bytes of sums of (index, elements of one step)."""
    offsets = [e.mul(index, FLOAT_BYTES * elements) for index, elements in parts]
    total = offsets[0]
    for offset in offsets[1:]:
        total = e.add(total, offset)
    return total
