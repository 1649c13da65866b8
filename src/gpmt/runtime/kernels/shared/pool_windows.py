"""Pooling over windows in two passes, for max pooling and mean pooling.

Loops: channel → blocks of rows of the output → {
    down:    row → vectors of a row of the input → rows of the window
    across:  row → vectors of a row of the output → columns of the window
}

The pass down combines the rows of the windows that make a row of the output, and writes the result to a buffer on the
stack, which stays in the L1 cache. There it is surrounded by the value of the outside: -inf or zero. The pass across
combines columns of the buffer. So the input's padding is never used.

    input   planes [images, channels, height, width]
    output  planes [images, channels, output height, output width]

Reads whole vectors behind the pixels of a row of the input.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from gpmt.arithmetic import round_up
from gpmt.runtime.codegen.addresses import plane_address, row_address
from gpmt.runtime.codegen.emitter import F32, I1, I64, Emitter, constant
from gpmt.runtime.codegen.loops import RowVector, row_loop
from gpmt.runtime.codegen.shuffles import every_second, gather, reorder
from gpmt.runtime.codegen.work_split import WorkSplit
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.kernels.shared.planes_kernel import PlanesKernel

_BUFFER = 4096  # elements, which fit into the L1 cache
_MAX_UNROLLED = 8  # rows of a window; higher windows are looped over

Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class WindowPoolKernel(PlanesKernel):
    """Pooling over windows.

    Attributes:
        lanes, input, output: as in `PlanesKernel`.
        kernel, stride: (rows, columns).
        padding: (top, left, bottom, right); the last two follow from the output's size, and are not used.
    """

    kernel: Pair
    stride: Pair
    padding: Padding

    @property
    def _split(self) -> WorkSplit:
        source, output = self.input, self.output
        row_work = self.stride[0] * source.width + output.width
        return WorkSplit.of(source.images, source.channels, output.height, row_work)

    @property
    def _buffer_left(self) -> int:
        """Elements of a row of the buffer before the image's first column."""
        return round_up(self.padding[1], self.lanes)

    @property
    def _buffer_pitch(self) -> int:
        """Elements of a row of the buffer: as far as windows of whole vectors reach."""
        end = round_up(self.output.width, self.lanes) * self.stride[1] + self.kernel[1] + self.lanes
        return round_up(self._buffer_left + max(self.input.width + self.lanes, end), self.lanes)

    @abstractmethod
    def _combine(self, e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
        """Return the elements of a window combined."""

    @abstractmethod
    def _outside(self, e: Emitter) -> ir.Constant:
        """Return a vector of the value outside of the image, which does not change the result."""

    def _finish(self, e: Emitter, value: ir.Value, y: ir.Value, x: ir.Value) -> ir.Value:
        """Return the output, from the combined elements of the windows of a vector at (y, x)."""
        return value

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        item = self._split.item(e)
        source, output = self.image_addresses(e, item.image)
        pitch_bytes = 4 * self._buffer_pitch
        rows = max(1, min(self.output.height, self._split.rows_per_item, _BUFFER // self._buffer_pitch))
        stack = e.builder.alloca(ir.ArrayType(F32, rows * self._buffer_pitch))
        stack.align = 64
        buffer = e.builder.ptrtoint(stack, I64)
        with e.loop(0, rows * pitch_bytes, 4 * self.lanes) as offset:
            e.store(self._outside(e), e.add(buffer, offset), align=4 * self.lanes)

        first, stop = item.rows
        with e.loop(*item.channels) as channel:
            plane = plane_address(e, source, self.input, channel)
            target = plane_address(e, output, self.output, channel)
            with e.loop(first, stop, rows) as begin:
                end = e.minimum(stop, e.add(begin, rows))
                for emit_pass, address in ((self._down, plane), (self._across, target)):
                    with e.loop(begin, end) as y:
                        row = e.add(buffer, e.mul(e.builder.sub(y, begin), pitch_bytes))
                        emit_pass(e, y, row, address)
        return e.text()

    def _down(self, e: Emitter, y: ir.Value, buffer_row: ir.Value, plane: ir.Value) -> None:
        """Combine the rows of the windows that make row y of the output."""
        height, pitch_bytes = self.kernel[0], self.input.pitch_bytes
        top = e.add(e.mul(y, self.stride[0]), -self.padding[0])
        window = row_address(e, plane, self.input, top)
        result = e.add(buffer_row, 4 * self._buffer_left)

        def store(vector: RowVector, value: ir.Value) -> None:
            if vector.pixels < self.lanes:
                mask = [i < vector.pixels for i in range(self.lanes)]
                inside = ir.Constant(ir.VectorType(I1, self.lanes), mask)
                value = e.builder.select(inside, value, self._outside(e))
            e.store(value, e.add(result, e.mul(vector.x, 4)))

        def all_rows(vector: RowVector) -> None:
            address = e.add(window, e.mul(vector.x, 4))
            rows = [e.load(address, e.vector, dy * pitch_bytes) for dy in range(height)]
            store(vector, self._combine(e, rows))

        def rows_inside(vector: RowVector) -> None:
            address = e.add(window, e.mul(vector.x, 4))
            value = e.variable(self._outside(e))
            begin = e.maximum(e.builder.sub(constant(0), top), constant(0))
            end = e.minimum(constant(height), e.builder.sub(constant(self.input.height), top))
            with e.loop(begin, end) as dy:
                loaded = e.load(e.add(address, e.mul(dy, pitch_bytes)), e.vector)
                e.builder.store(self._combine(e, [loaded, e.builder.load(value)]), value)
            store(vector, e.builder.load(value))

        width = self.input.width
        if height > _MAX_UNROLLED:
            row_loop(e, width, width, rows_inside, unroll=2)
            return
        above_end = e.builder.icmp_signed("<=", e.add(top, height), constant(self.input.height))
        is_inside = e.builder.and_(e.builder.icmp_signed(">=", top, constant(0)), above_end)
        with e.builder.if_else(is_inside) as (inside, partly_inside):
            with inside:
                row_loop(e, width, width, all_rows)
            with partly_inside:
                row_loop(e, width, width, rows_inside, unroll=1)

    def _across(self, e: Emitter, y: ir.Value, buffer_row: ir.Value, plane: ir.Value) -> None:
        """Combine the columns of the windows, and write row y of the output."""
        stride, width = self.stride[1], self.kernel[1]
        corner = e.add(buffer_row, 4 * (self._buffer_left - self.padding[1]))
        target = row_address(e, plane, self.output, y)

        def body(vector: RowVector) -> None:
            if not vector.pixels:
                vector.store(e, e.splat(0.0), target)
                return
            address = e.add(corner, e.mul(vector.x, 4 * stride))
            if stride == 1:
                values = [e.load(address, e.vector, 4 * dx) for dx in range(width)]
            elif stride == 2:
                halves = [
                    [e.load(address, e.vector, 4 * (dx + i)) for i in (0, self.lanes)]
                    for dx in range(0, width, 2)
                ]
                values = [every_second(e, halves[dx // 2], dx % 2) for dx in range(width)]
            else:
                values = [gather(e, e.add(address, 4 * dx), 4 * stride, self.lanes) for dx in range(width)]
            value = self._combine(e, values)
            value = reorder(e, value) if stride == 2 else value
            vector.store(e, self._finish(e, value, y, vector.x), target)

        row_loop(e, self.output.width, self.output.pitch, body, unroll=2)
