"""Images to vectors whose features are the pixels of an image, in the order channel, row, column.

Loops: block of images (an item has at most a cache line of them) → channel → row → block of columns, which is
transposed in registers.

    input   planes [images, channels, height, width]
    output  vectors, Planes(1, channels · height · width, 1, images)

Reads whole vectors behind the pixels of a row of the input.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.loops import block_loop
from gpmt.runtime.codegen.work_split import WorkSplit
from gpmt.runtime.kernels.shared.planes_kernel import PlanesKernel
from gpmt.runtime.kernels.shared.transposed_blocks import samples_loop, store_transposed
from gpmt.runtime.layout.planes import CACHE_LINE


@dataclass(frozen=True)
class FlattenKernel(PlanesKernel):
    """Images to vectors; attributes as in `PlanesKernel`."""

    @property
    def _split(self) -> WorkSplit:
        source = self.input
        lines = ceil_div(source.images, CACHE_LINE)
        return WorkSplit.of(lines, source.channels, source.height, CACHE_LINE * source.width)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        source, plane_bytes = self.input, self.output.plane_bytes
        item = self._split.item(e)

        def row(sample: ir.Value, samples: int, channel: ir.Value, y: ir.Value) -> None:
            pixels = e.add(
                e.arg("input"), e.add(e.mul(channel, source.plane_bytes), e.mul(y, source.pitch_bytes))
            )
            pixels = e.add(pixels, e.mul(sample, source.image_bytes))
            feature = e.mul(e.add(e.mul(channel, source.height), y), source.width)
            target = e.add(e.arg("output"), e.add(e.mul(feature, plane_bytes), e.mul(sample, 4)))

            def block(x: ir.Value, columns: int) -> None:
                address = e.add(pixels, e.mul(x, 4))
                rows = [e.load(address, e.vector, i * source.image_bytes) for i in range(samples)]
                store_transposed(e, rows, e.add(target, e.mul(x, plane_bytes)), self.output, columns)

            block_loop(e, 0, source.width, source.width, self.lanes, block)

        def rows(sample: ir.Value, samples: int) -> None:
            with e.loop(*item.channels) as channel, e.loop(*item.rows) as y:
                row(sample, samples, channel, y)

        samples_loop(e, item.image, source.images, rows)
        return e.text()
