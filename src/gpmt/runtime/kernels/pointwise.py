"""Operators that make each number of one channel from the same place of their inputs: scale and shift, addition.

Where all pitches are equal, a plane is taken as one line of numbers, and a mask keeps its pads zero; otherwise it is
taken row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.graph import IDENTITY, Activation
from gpmt.runtime.kernels.emit import F32, Emitter
from gpmt.runtime.kernels.walk import Cut, Index, Piece, along, stepped
from gpmt.runtime.layout import Planes

_UNROLLED = 4
_Function = Callable[[Sequence[ir.Value]], ir.Value]


@dataclass(frozen=True)
class _Walk:
    """The way through planes of one shape.

    Attributes:
        sources, output: layouts.
    """

    lanes: int
    sources: tuple[Planes, ...]
    output: Planes

    @property
    def line(self) -> bool:
        """Whether planes are taken as lines."""
        return all(source.pitch == self.output.pitch for source in self.sources)

    @property
    def vectors(self) -> int:
        """Vectors of a plane."""
        return -(-self.output.cover // self.lanes)

    @property
    def cut(self) -> Cut:
        """The items; vectors are rows where planes are lines."""
        output, channels = self.output, self.sources[0].channels
        if self.line:
            return Cut.of(output.images, channels, self.vectors, self.lanes, rows_by=_UNROLLED)
        return Cut.of(output.images, channels, output.height, output.pitch)

    def emit(
        self,
        e: Emitter,
        sources: Sequence[Index],
        output: Index,
        mask: Index,
        function: Callable[[Index], _Function],
    ) -> None:
        """Write the loops.

        Args:
            sources, output, mask: addresses.
            function: takes the channel and returns what makes a vector of the output from those of the sources.
        """
        image, start, stop, first, last = self.cut.of_item(e)
        with e.loop(start, stop) as channel:
            planes = [*zip(sources, self.sources, strict=True), (output, self.output)]
            *inputs, target = (
                e.add(base, e.add(e.mul(image, 4 * plane.image), e.mul(channel, 4 * plane.plane)))
                for base, plane in planes
            )
            make = function(channel)
            if self.line:
                self._line(e, inputs, target, mask, make, (first, last))
            else:
                self._rows(e, inputs, target, make, (first, last))

    def _line(
        self,
        e: Emitter,
        inputs: Sequence[Index],
        target: Index,
        mask: Index,
        make: _Function,
        part: tuple[Index, Index],
    ) -> None:
        step = 4 * self.lanes

        def body(vector: Index, count: int) -> None:
            offset = e.mul(vector, step)
            places = [e.add(plane, offset) for plane in inputs]
            values = [make([e.load(place, e.vector, i * step) for place in places]) for i in range(count)]
            for i, value in enumerate(values):
                inside = e.load(e.add(mask, offset), e.mask, i * step)
                e.store(e.keep(value, inside), e.add(target, offset), i * step)

        stepped(e, *part, self.vectors, _UNROLLED, body)

    def _rows(
        self, e: Emitter, inputs: Sequence[Index], target: Index, make: _Function, part: tuple[Index, Index]
    ) -> None:
        with e.loop(*part) as y:
            rows = [
                e.add(plane, e.mul(y, 4 * layout.pitch))
                for plane, layout in zip(inputs, self.sources, strict=True)
            ]
            written = e.add(target, e.mul(y, 4 * self.output.pitch))

            def body(piece: Piece) -> None:
                place = e.mul(piece.x, 4)
                piece.store(e, make([e.load(e.add(row, place), e.vector) for row in rows]), written)

            along(e, self.output.width, self.output.pitch, body)


@dataclass(frozen=True)
class Affine:
    """output = activation(scale · input + shift), with one scale and one shift (float32 [channels]) for each channel.

    Attributes:
        lanes: numbers in a vector.
        input, output: layouts; of the output's channels as many are written as the input has.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "scale", "shift", "mask")

    lanes: int
    input: Planes
    output: Planes
    activation: Activation = IDENTITY

    @property
    def _walk(self) -> _Walk:
        return _Walk(self.lanes, (self.input,), self.output)

    @property
    def items(self) -> int:
        """Pieces of work."""
        return self._walk.cut.items

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        source, output, scales, shifts, mask = (e.arg(i) for i in range(5))

        def function(channel: Index) -> _Function:
            place = e.mul(channel, 4)
            scale, shift = (e.splat(e.load(e.add(base, place), F32)) for base in (scales, shifts))
            return lambda values: e.activate(e.fma(values[0], scale, shift), self.activation)

        self._walk.emit(e, [source], output, mask, function)
        return e.text()


@dataclass(frozen=True)
class Add:
    """output = activation(left + right).

    Attributes:
        lanes: numbers in a vector.
        left, right, output: layouts.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("left", "right", "output", "mask")

    lanes: int
    left: Planes
    right: Planes
    output: Planes
    activation: Activation = IDENTITY

    @property
    def _walk(self) -> _Walk:
        return _Walk(self.lanes, (self.left, self.right), self.output)

    @property
    def items(self) -> int:
        """Pieces of work."""
        return self._walk.cut.items

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        left, right, output, mask = (e.arg(i) for i in range(4))

        def function(channel: Index) -> _Function:
            return lambda values: e.activate(e.builder.fadd(*values), self.activation)

        self._walk.emit(e, [left, right], output, mask, function)
        return e.text()
