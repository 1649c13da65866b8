"""Rows of images copied to rows with padding, for importing, exporting and extracting phases.

Loops: row of the output → vectors of the row → phases. Every `stride`-th element of a source row goes to a phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.addresses import plane_address, row_address
from gpmt.runtime.codegen.emitter import F32, Emitter, constant
from gpmt.runtime.codegen.loops import RowVector, row_loop
from gpmt.runtime.codegen.shuffles import every_second, gather, load_first, reorder
from gpmt.runtime.codegen.work_split import WorkSplit
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.layout.planes import Planes

ONE_PHASE: tuple[Pair, ...] = ((0, 0),)

SourceRow = Callable[[ir.Value], ir.Value]
"""Returns the address of a row of the source."""
TargetRow = Callable[[ir.Value, int], ir.Value]
"""Returns the address of a row of the output, given its index and that of the phase."""


@dataclass(frozen=True)
class RowCopy:
    """A copy of rows.

    Attributes:
        lanes: elements of a vector register.
        images, channels, height, width: of the source.
        pitch: elements that are written of a row of the output, padding included.
        stride: rows and columns of the source from one that goes to a phase to the next.
        phases: (row, column) of the phases to write.
        exact: whether nothing behind a row of the source may be read; else whole vectors are.
    """

    lanes: int
    images: int
    channels: int
    height: int
    width: int
    pitch: int
    stride: Pair
    phases: tuple[Pair, ...]
    exact: bool

    @staticmethod
    def of_planes(
        lanes: int, source: Planes, pitch: int, stride: Pair = (1, 1), phases: tuple[Pair, ...] = ONE_PHASE
    ) -> RowCopy:
        """Return a copy whose source is planes."""
        shape = source.images, source.channels, source.height, source.width
        return RowCopy(lanes, *shape, pitch, stride, phases, exact=False)

    @property
    def rows(self) -> int:
        """Rows of the output."""
        return ceil_div(self.height, self.stride[0])

    def split(self, channel_multiple: int = 1) -> WorkSplit:
        """Return how the rows are split into items."""
        work = self.width * self.stride[0] + self.pitch * len(self.phases)
        return WorkSplit.of(
            self.images, self.channels, self.rows, work // 2, channel_multiple=channel_multiple
        )

    def emit(self, e: Emitter, rows: tuple[ir.Value, ir.Value], source: SourceRow, target: TargetRow) -> None:
        """Write a copy of rows whose elements are contiguous.

        Args:
            rows: the first row of the output, and the one behind the last.
            source, target: addresses of rows.
        """
        first, stop = rows
        whole, rest = divmod(self.height, self.stride[0])
        with e.loop(first, e.minimum(stop, constant(whole))) as y:
            self._row(e, y, self.stride[0], source, target)
        if rest:
            with e.loop(e.maximum(first, constant(whole)), stop) as y:
                self._row(e, y, rest, source, target)

    def emit_scattered(
        self,
        e: Emitter,
        rows: tuple[ir.Value, ir.Value],
        element_bytes: ir.Value,
        source: SourceRow,
        target: TargetRow,
    ) -> None:
        """Write a copy of rows whose elements are `element_bytes` apart, one by one; arguments as for `emit`."""
        sy, sx = self.stride
        with e.loop(*rows) as y:
            for i, (ry, rx) in enumerate(self.phases):
                row = target(y, i)
                row_loop(e, 0, self.pitch, partial(_store_zeros, e, [row]))
                source_y = e.add(e.mul(y, sy), ry)
                columns = max(0, ceil_div(self.width - rx, sx))
                inside = e.builder.icmp_signed("<", source_y, constant(self.height))
                source_row = source(source_y)
                with e.loop(0, e.builder.select(inside, constant(columns), constant(0))) as x:
                    offset = e.builder.mul(e.add(e.mul(x, sx), rx), element_bytes)
                    e.store(e.load(e.add(source_row, offset), F32), e.add(row, e.mul(x, 4)))

    def _row(self, e: Emitter, y: ir.Value, rows_inside: int, source: SourceRow, target: TargetRow) -> None:
        """Write row y of all phases, for which the source has `rows_inside` of `stride` rows."""
        sy, sx = self.stride
        targets = [target(y, i) for i in range(len(self.phases))]
        for ry in sorted({row for row, _ in self.phases}):
            phases = [(rx, targets[i]) for i, (row, rx) in enumerate(self.phases) if row == ry]
            if ry >= rows_inside:
                row_loop(e, 0, self.pitch, partial(_store_zeros, e, [row for _, row in phases]))
                continue
            source_row = source(e.add(e.mul(y, sy), ry))
            body = partial(self._vector, e, source_row, phases)
            row_loop(e, ceil_div(self.width, sx), self.pitch, body, full=self.width // (sx * self.lanes))

    def _vector(
        self, e: Emitter, row: ir.Value, phases: list[tuple[int, ir.Value]], vector: RowVector
    ) -> None:
        """Write one vector of phases, each given by its column and its row's address."""
        (_, sx), lanes = self.stride, self.lanes
        address = e.add(row, e.mul(vector.x, 4 * sx))
        # Elements of the source from here to the end of the row, as far as the vectors read.
        left = sx * lanes if vector.pixels else 0
        if isinstance(vector.x, ir.Constant):
            left = max(0, self.width - sx * vector.x.constant)

        def load(start: int) -> ir.Value:
            count = max(0, min(lanes, left - start))
            if count and not self.exact:
                return e.load(address, e.vector, 4 * start)
            return load_first(e, address, count, 4 * start)

        halves = [load(0), load(lanes)] if sx == 2 and vector.pixels else []
        for rx, target in phases:
            pixels = max(0, min(lanes, ceil_div(left - rx, sx)))
            if not pixels:
                value = e.splat(0.0)
            elif sx == 1:
                value = load(0)
            elif sx == 2:
                value = reorder(e, every_second(e, halves, rx))
            else:
                value = gather(e, e.add(address, 4 * rx), 4 * sx, pixels)
            RowVector(vector.x, pixels, vector.in_row).store(e, value, target)


def phase_rows(e: Emitter, planes: Planes, image: ir.Value, channel: ir.Value, phases: int) -> TargetRow:
    """Return the addresses of rows of a channel's phases, which are neighbouring planes of an image at an address."""
    first = plane_address(e, image, planes, channel, phases)
    return lambda y, i: e.add(row_address(e, first, planes, y), i * planes.plane_bytes)


def _store_zeros(e: Emitter, rows: list[ir.Value], vector: RowVector) -> None:
    for row in rows:
        vector.store(e, e.splat(0.0), row)
