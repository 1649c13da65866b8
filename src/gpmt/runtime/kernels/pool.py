"""Pooling: the largest or the mean number of every window of an image, and the means of whole channels.

Windows are taken in two steps: down the columns (some rows of the input become one row of intermediate results, in a
small memory of the item's own), then along those rows. What lies outside of the image is -inf or zero there, so
nothing is asked of the input's pads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div, round_up
from gpmt.runtime.codegen.emitter import F32, I1, I32, I64, Emitter, constant
from gpmt.runtime.codegen.loops import Cut, Index, Piece, Walk, along, least, most, stepped
from gpmt.runtime.codegen.shuffles import alternate, gather, straighten
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.layout.planes import Planes

_ROOM = 4096  # numbers of intermediate results: they stay in the first-level cache
_UNROLLED = 8  # rows of a window, at most, that are written one by one

Padding = tuple[int, int, int, int]


def largest(e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
    """Return the largest numbers of vectors; NaN where one of them is NaN."""
    result, others = values[0], list(values[1:])
    for value in others:
        # In this form it is one instruction on x86, and keeps a NaN that `result` holds.
        result = e.builder.select(e.builder.fcmp_ordered(">", value, result), value, result)
    # A NaN among the others: all bits set, which is a NaN too.
    for left, right in zip(others[::2], others[1::2] + others[-1:], strict=False):
        unordered = e.builder.sext(e.builder.fcmp_unordered("uno", left, right), e.mask)
        result = e.builder.bitcast(e.builder.or_(e.builder.bitcast(result, e.mask), unordered), e.vector)
    return result


def total(e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
    """Return the sum of vectors."""
    result = values[0]
    for value in values[1:]:
        result = e.builder.fadd(result, value)
    return result


@dataclass(frozen=True)
class _Windows(Walk):
    """What both kinds of pooling share; see `MaxPoolKernel`."""

    lanes: int
    input: Planes
    output: Planes
    kernel: Pair
    stride: Pair
    padding: Padding

    @property
    def _cut(self) -> Cut:
        output = self.output
        return Cut.of(
            self.input.images,
            self.input.channels,
            output.height,
            self.stride[0] * self.input.width + output.width,
        )

    @property
    def _before(self) -> int:
        """Numbers of a row of intermediate results before the image's first column."""
        return _up(self.padding[1], self.lanes)

    @property
    def _length(self) -> int:
        """Numbers of a row of intermediate results, as far as windows of whole vectors reach."""
        last = _up(self.output.width, self.lanes) * self.stride[1] + self.kernel[1] + self.lanes
        return _up(self._before + max(self.input.width + self.lanes, last), self.lanes)

    @abstractmethod
    def _combine(self, e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
        """Return what the numbers of a window make together."""

    @abstractmethod
    def _outside(self, e: Emitter) -> ir.Constant:
        """Return what counts outside of the image."""

    def _finish(self, e: Emitter, value: ir.Value, y: Index, x: Index) -> ir.Value:
        return value

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        image, start, stop, first, last = self._cut.of_item(e)
        source = e.add(e.arg(0), e.mul(image, self.input.image_bytes))
        output = e.add(e.arg(1), e.mul(image, self.output.image_bytes))
        together = max(1, min(self.output.height, self._cut.rows_each, _ROOM // self._length))
        memory = e.builder.alloca(ir.ArrayType(F32, together * self._length))
        memory.align = 64
        rows = e.builder.ptrtoint(memory, I64)
        with e.loop(0, 4 * together * self._length, 4 * self.lanes) as place:
            e.store(self._outside(e), e.add(rows, place), align=4 * self.lanes)

        with e.loop(start, stop) as channel:
            plane = e.add(source, e.mul(channel, self.input.plane_bytes))
            target = e.add(output, e.mul(channel, self.output.plane_bytes))
            with e.loop(first, last, together) as begin:
                end = least(e, last, e.add(begin, together))
                for step in (self._down, self._across):
                    with e.loop(begin, end) as y:
                        row = e.add(rows, e.mul(e.builder.sub(y, begin), 4 * self._length))
                        step(e, y, row, plane if step == self._down else target)
        return e.text()

    def _down(self, e: Emitter, y: Index, row: Index, plane: Index) -> None:
        """Combine the rows of the windows that make row y of the output."""
        height, pitch = self.kernel[0], self.input.pitch_bytes
        top = e.add(e.mul(y, self.stride[0]), -self.padding[0])
        window = e.add(plane, e.mul(top, pitch))
        result = e.add(row, 4 * self._before)

        def write(piece: Piece, value: ir.Value) -> None:
            if piece.pixels < self.lanes:
                inside = ir.Constant(
                    ir.VectorType(I1, self.lanes), [i < piece.pixels for i in range(self.lanes)]
                )
                value = e.builder.select(inside, value, self._outside(e))
            e.store(value, e.add(result, e.mul(piece.x, 4)))

        def whole(piece: Piece) -> None:
            place = e.add(window, e.mul(piece.x, 4))
            write(piece, self._combine(e, [e.load(place, e.vector, dy * pitch) for dy in range(height)]))

        def part(piece: Piece) -> None:
            place = e.add(window, e.mul(piece.x, 4))
            value = e.variable(self._outside(e))
            begin = most(e, e.builder.sub(constant(0), top), constant(0))
            with e.loop(
                begin, least(e, constant(height), e.builder.sub(constant(self.input.height), top))
            ) as dy:
                loaded = e.load(e.add(place, e.mul(dy, pitch)), e.vector)
                e.builder.store(self._combine(e, [loaded, e.builder.load(value)]), value)
            write(piece, e.builder.load(value))

        width = self.input.width
        if height > _UNROLLED:
            along(e, width, width, part, unroll=2)
            return
        below = e.builder.icmp_signed("<=", e.add(top, height), constant(self.input.height))
        inside = e.builder.and_(e.builder.icmp_signed(">=", top, constant(0)), below)
        with e.builder.if_else(inside) as (all_rows, some_rows):
            with all_rows:
                along(e, width, width, whole)
            with some_rows:
                along(e, width, width, part, unroll=1)

    def _across(self, e: Emitter, y: Index, row: Index, target: Index) -> None:
        """Combine the columns of the windows, and write row y of the output."""
        step, width = self.stride[1], self.kernel[1]
        corner = e.add(row, 4 * (self._before - self.padding[1]))
        written = e.add(target, e.mul(y, self.output.pitch_bytes))

        def body(piece: Piece) -> None:
            if not piece.pixels:
                piece.store(e, e.splat(0.0), written)
                return
            place = e.add(corner, e.mul(piece.x, 4 * step))
            if step == 1:
                values = [e.load(place, e.vector, 4 * dx) for dx in range(width)]
            elif step == 2:
                ends = [
                    [e.load(place, e.vector, 4 * (dx + i)) for i in (0, self.lanes)]
                    for dx in range(0, width, 2)
                ]
                values = [alternate(e, ends[dx // 2], dx % 2) for dx in range(width)]
            else:
                values = [gather(e, e.add(place, 4 * dx), 4 * step, self.lanes) for dx in range(width)]
            value = self._combine(e, values)
            value = straighten(e, value) if step == 2 else value
            piece.store(e, self._finish(e, value, y, piece.x), written)

        along(e, self.output.width, self.output.pitch, body, unroll=2)


def _up(number: int, multiple: int) -> int:
    return round_up(number, multiple)


@dataclass(frozen=True)
class MaxPoolKernel(_Windows):
    """The largest number of every window; NaN where a window holds one.

    Attributes:
        lanes: numbers in a vector.
        input, output: layouts.
        kernel, stride: (rows, columns).
        padding: (top, left, bottom, right), which never is the largest; the output's size decides about the last two.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    def _combine(self, e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
        return largest(e, values)

    def _outside(self, e: Emitter) -> ir.Constant:
        return ir.Constant(e.vector, [-np.inf] * e.lanes)


@dataclass(frozen=True)
class MeanPoolKernel(_Windows):
    """The mean of every window; attributes as in `MaxPoolKernel`.

    Attributes:
        count_padding: whether the sum is divided by the size of the window, or of its part inside the image.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "scales")

    count_padding: bool = True

    def scales(self) -> NDArray[np.float32]:
        """Return what the kernel reads at "scales": a factor for each sum [height, whole vectors of a row]."""
        output, (rows, columns) = self.output, self.kernel
        if self.count_padding:
            sizes = np.full((output.height, output.width), rows * columns)
        else:
            high = _inside(output.height, rows, self.stride[0], self.padding[0], self.input.height)
            wide = _inside(output.width, columns, self.stride[1], self.padding[1], self.input.width)
            sizes = high[:, None] * wide
        result = np.zeros((output.height, _up(output.width, self.lanes)), np.float32)
        result[:, : output.width] = 1 / np.maximum(sizes, 1)
        return result

    def _combine(self, e: Emitter, values: Sequence[ir.Value]) -> ir.Value:
        return total(e, values)

    def _outside(self, e: Emitter) -> ir.Constant:
        return e.splat(0.0)

    def _finish(self, e: Emitter, value: ir.Value, y: Index, x: Index) -> ir.Value:
        place = e.add(e.mul(y, 4 * _up(self.output.width, self.lanes)), e.mul(x, 4))
        return e.builder.fmul(value, e.load(e.add(e.arg(2), place), e.vector))


def _inside(count: int, kernel: int, stride: int, before: int, size: int) -> NDArray[np.int64]:
    """Return how many places of each window along one dimension are inside the image."""
    first = np.arange(count) * stride - before
    return np.minimum(first + kernel, size) - np.maximum(first, 0)


@dataclass(frozen=True)
class GlobalMeanKernel(Walk):
    """The mean of every channel of every image, to vectors (images are samples, channels are features) or 1×1 images.

    Numbers are added in a fixed order, eight vectors of sums at a time; the input's pads must be zero.

    Attributes:
        lanes: numbers in a vector.
        input, output: layouts; the output is Planes(1, channels, 1, images) or Planes(images, channels, 1, 1).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes
    output: Planes

    @property
    def _cut(self) -> Cut:
        # All images of a channel in one item: their means lie in one cache line.
        return Cut.of(1, self.input.channels, 1, self.input.images * self.input.plane_stride)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        source, output = self.input, self.output
        _, start, stop, _, _ = self._cut.of_item(e)
        sample = 4 if output.images == 1 else output.image_bytes
        with e.loop(start, stop) as channel, e.loop(0, source.images) as image:
            plane = e.add(
                e.arg(0), e.add(e.mul(channel, source.plane_bytes), e.mul(image, source.image_bytes))
            )
            mean = e.builder.fmul(self._sum(e, plane), ir.Constant(F32, 1 / (source.height * source.width)))
            place = e.add(e.mul(channel, output.plane_bytes), e.mul(image, sample))
            e.store(mean, e.add(e.arg(1), place))
        return e.text()

    def _sum(self, e: Emitter, plane: Index) -> ir.Value:
        """Return the sum of a plane."""
        ways = 8
        sums = [e.variable(e.splat(0.0)) for _ in range(ways)]

        def vectors(place: Index, count: int) -> None:
            address = e.add(plane, e.mul(place, 4))
            for i in range(ceil_div(count, self.lanes)):
                value = e.load(address, e.vector, 4 * i * self.lanes)
                e.builder.store(e.builder.fadd(e.builder.load(sums[i]), value), sums[i])

        cover = self.input.extent
        stepped(e, 0, cover, cover, ways * self.lanes, vectors)
        values = [e.builder.load(variable) for variable in sums]
        while len(values) > 1:
            values = [
                e.builder.fadd(left, right) for left, right in zip(values[::2], values[1::2], strict=True)
            ]
        value, count = values[0], self.lanes
        while count > 1:
            count //= 2
            halves = [ir.Constant(ir.VectorType(I32, count), list(range(i, i + count))) for i in (0, count)]
            low, high = (e.builder.shuffle_vector(value, value, half) for half in halves)
            value = e.builder.fadd(low, high)
        return e.builder.extract_element(value, ir.Constant(I32, 0))
