"""Images made larger: every pixel several times, down and across."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.loops import Cut, Piece, Walk, along
from gpmt.runtime.codegen.shuffles import shuffle
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.layout.planes import Planes


@dataclass(frozen=True)
class UpsampleKernel(Walk):
    """Pixel (y, x) of the output is pixel (y // down, x // across) of the input.

    Attributes:
        lanes: numbers in a vector, a multiple of `across`.
        input, output: layouts.
        factor: (down, across).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes
    output: Planes
    factor: Pair

    @property
    def _cut(self) -> Cut:
        source = self.input
        return Cut.of(source.images, source.channels, source.height, self.factor[0] * self.output.width)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        source, output, (down, across) = self.input, self.output, self.factor
        image, start, stop, first, last = self._cut.of_item(e)
        images = (
            e.add(e.arg(0), e.mul(image, source.image_bytes)),
            e.add(e.arg(1), e.mul(image, output.image_bytes)),
        )
        part = ir.VectorType(F32, self.lanes // across)
        with e.loop(start, stop) as channel, e.loop(first, last) as y:
            row = e.add(e.add(images[0], e.mul(channel, source.plane_bytes)), e.mul(y, source.pitch_bytes))
            target = e.add(
                e.add(images[1], e.mul(channel, output.plane_bytes)), e.mul(y, 4 * down * output.pitch)
            )

            def repeat(piece: Piece, row: ir.Value = row, target: ir.Value = target) -> None:
                value = e.splat(0.0)
                if piece.pixels:
                    pixels = e.load(e.add(row, e.mul(piece.x, 4 // across)), part)
                    value = shuffle(e, pixels, pixels, [i // across for i in range(self.lanes)])
                for i in range(down):
                    piece.store(e, value, e.add(target, 4 * i * output.pitch))

            along(e, output.width, output.pitch, repeat)
        return e.text()
