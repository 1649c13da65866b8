"""Nearest-neighbour upsampling.

Loops: channel → row of the input → vectors of a row of the output, each written to `down` rows.

    input   planes [images, channels, height, width]
    output  planes [images, channels, down · height, across · width]

Reads up to lanes / across elements behind the pixels of a row of the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from gpmt.runtime.codegen.addresses import plane_address, row_address
from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.loops import RowVector, row_loop
from gpmt.runtime.codegen.shuffles import shuffle
from gpmt.runtime.codegen.work_split import WorkSplit
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.kernels.shared.planes_kernel import PlanesKernel


@dataclass(frozen=True)
class UpsampleKernel(PlanesKernel):
    """Pixel (y, x) of the output is pixel (y // down, x // across) of the input.

    Attributes:
        lanes, input, output: as in `PlanesKernel`; lanes is a multiple of `across`.
        factor: (down, across).
    """

    factor: Pair

    @property
    def _split(self) -> WorkSplit:
        source = self.input
        return WorkSplit.of(source.images, source.channels, source.height, self.factor[0] * self.output.width)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        source, output, (down, across) = self.input, self.output, self.factor
        item = self._split.item(e)
        source_image, output_image = self.image_addresses(e, item.image)
        part = ir.VectorType(F32, self.lanes // across)
        with e.loop(*item.channels) as channel, e.loop(*item.rows) as y:
            source_row = row_address(e, plane_address(e, source_image, source, channel), source, y)
            target = plane_address(e, output_image, output, channel)
            target = e.add(target, e.mul(y, down * output.pitch_bytes))

            def repeat(vector: RowVector, row: ir.Value = source_row, target: ir.Value = target) -> None:
                value = e.splat(0.0)
                if vector.pixels:
                    pixels = e.load(e.add(row, e.mul(vector.x, 4 // across)), part)
                    value = shuffle(e, pixels, pixels, [i // across for i in range(self.lanes)])
                for i in range(down):
                    vector.store(e, value, e.add(target, i * output.pitch_bytes))

            row_loop(e, output.width, output.pitch, repeat)
        return e.text()
