"""Vectors in and out: rows of a tensor to planes of features and back, in squares that are transposed in registers.

A vectors layout is Planes(images=1, channels=features, height=1, width=samples): one plane for each feature.
An item has some lines (of the cache) of samples and some of the features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.loops import Cut, Index, Walk, least, stepped
from gpmt.runtime.codegen.shuffles import load_first, store_first, transpose
from gpmt.runtime.layout.planes import CACHE_LINE, Planes


def _cut(samples: int, features: int) -> Cut:
    """Return the items: features are channels here, lines of samples are rows."""
    return Cut.of(1, features, ceil_div(samples, CACHE_LINE), CACHE_LINE, by=CACHE_LINE)


def _lines(e: Emitter, line: Index, samples: int, body: Callable[[Index, int], None]) -> None:
    """Write a body for the squares of a line of samples; it takes the first sample and how many there are."""
    first = e.mul(line, CACHE_LINE)
    last = least(e, e.add(first, CACHE_LINE), constant(samples))
    stepped(e, first, last, samples, e.lanes, body)


@dataclass(frozen=True)
class ImportVectorsKernel(Walk):
    """Rows of features, `row` bytes apart, to vectors.

    Attributes:
        output: the layout of the vectors; it says how many samples and features there are.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "row")

    lanes: int
    output: Planes

    @property
    def _cut(self) -> Cut:
        return _cut(self.output.width, self.output.channels)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        _, start, stop, first, last = self._cut.of_item(e)
        step, plane = e.arg(2), self.output.plane_bytes

        def square(sample: Index, samples: int, feature: Index, features: int) -> None:
            place = e.add(e.add(e.arg(0), e.builder.mul(sample, step)), e.mul(feature, 4))
            rows = []
            for _ in range(samples):
                rows.append(load_first(e, place, features))
                place = e.add(place, step)
            target = e.add(e.arg(1), e.add(e.mul(feature, plane), e.mul(sample, 4)))
            _store(e, rows, target, plane, features)

        def squares(sample: Index, samples: int) -> None:
            stepped(
                e, start, stop, self.output.channels, self.lanes,
                lambda feature, features: square(sample, samples, feature, features),
            )  # fmt: skip

        with e.loop(first, last) as line:
            _lines(e, line, self.output.width, squares)
        return e.text()


def _store(e: Emitter, rows: list[ir.Value], target: Index, plane: int, features: int) -> None:
    """Write rows of features as columns, one to each plane; samples that are not there become zeros."""
    zeros = [e.splat(0.0)] * (e.lanes - len(rows))
    for i, column in enumerate(transpose(e, rows + zeros)[:features]):
        e.store(column, target, i * plane)


@dataclass(frozen=True)
class FlattenKernel(Walk):
    """Images to vectors whose features are the pixels of an image in the order channel, row, column.

    Attributes:
        input: the layout of the images; they are the samples.
        output: the layout of the vectors.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes
    output: Planes

    @property
    def _cut(self) -> Cut:
        source = self.input
        return Cut.of(
            ceil_div(source.images, CACHE_LINE), source.channels, source.height, CACHE_LINE * source.width
        )

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        source, plane = self.input, self.output.plane_bytes
        line, start, stop, first, last = self._cut.of_item(e)

        def row(sample: Index, samples: int, channel: Index, y: Index) -> None:
            pixels = e.add(e.arg(0), e.add(e.mul(channel, source.plane_bytes), e.mul(y, source.pitch_bytes)))
            pixels = e.add(pixels, e.mul(sample, source.image_bytes))
            feature = e.mul(e.add(e.mul(channel, source.height), y), source.width)
            target = e.add(e.arg(1), e.add(e.mul(feature, plane), e.mul(sample, 4)))

            def square(x: Index, columns: int) -> None:
                place = e.add(pixels, e.mul(x, 4))
                rows = [e.load(place, e.vector, 4 * i * source.image_stride) for i in range(samples)]
                _store(e, rows, e.add(target, e.mul(x, plane)), plane, columns)

            stepped(e, 0, source.width, source.width, self.lanes, square)

        def rows(sample: Index, samples: int) -> None:
            with e.loop(start, stop) as channel, e.loop(first, last) as y:
                row(sample, samples, channel, y)

        _lines(e, line, source.images, rows)
        return e.text()


@dataclass(frozen=True)
class ExportVectorsKernel(Walk):
    """Vectors to a contiguous tensor [samples, features].

    Attributes:
        input: the layout of the vectors; it says how many samples and features there are.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes

    @property
    def _cut(self) -> Cut:
        return _cut(self.input.width, self.input.channels)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        _, start, stop, first, last = self._cut.of_item(e)
        plane, step = self.input.plane_bytes, 4 * self.input.channels

        def square(sample: Index, samples: int, feature: Index, features: int) -> None:
            place = e.add(e.arg(0), e.add(e.mul(feature, plane), e.mul(sample, 4)))
            columns = [e.load(place, e.vector, i * plane) for i in range(features)]
            columns += [e.splat(0.0)] * (self.lanes - features)
            target = e.add(e.arg(1), e.add(e.mul(sample, step), e.mul(feature, 4)))
            for i, row in enumerate(transpose(e, columns)[:samples]):
                store_first(e, row, target, features, i * step)

        def squares(sample: Index, samples: int) -> None:
            stepped(
                e, start, stop, self.input.channels, self.lanes,
                lambda feature, features: square(sample, samples, feature, features),
            )  # fmt: skip

        with e.loop(first, last) as line:
            _lines(e, line, self.input.width, squares)
        return e.text()
