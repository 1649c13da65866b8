"""The mean of every channel of every image (global average pooling).

Loops: channel → image → blocks of eight vectors of the plane. Values are added in a fixed order: each of the eight
vectors has an accumulator of its own, and the accumulators are then added in pairs.

    input   planes [images, channels, height, width]
    output  vectors, Planes(1, channels, 1, images), or images of one pixel, Planes(images, channels, 1, 1)

Reads the padding of the rows, which is zero, and whole vectors behind the last row of a plane.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.loops import block_loop
from gpmt.runtime.codegen.shuffles import keep_first
from gpmt.runtime.codegen.work_split import WorkSplit
from gpmt.runtime.kernels.shared.planes_kernel import PlanesKernel
from gpmt.runtime.kernels.shared.vector_sums import sum_of_elements
from gpmt.runtime.layout.planes import FLOAT_BYTES

_ACCUMULATORS = 8


@dataclass(frozen=True)
class GlobalMeanKernel(PlanesKernel):
    """Means of channels; attributes as in `PlanesKernel`."""

    @property
    def _split(self) -> WorkSplit:
        # An item has all images of a channel, since their means are in one cache line.
        return WorkSplit.of(1, self.input.channels, 1, self.input.images * self.input.plane_stride)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        source, output = self.input, self.output
        item = self._split.item(e)
        sample_bytes = FLOAT_BYTES if output.images == 1 else output.image_bytes
        with e.loop(*item.channels) as channel, e.loop(0, source.images) as image:
            plane = e.add(
                e.arg("input"), e.add(e.mul(channel, source.plane_bytes), e.mul(image, source.image_bytes))
            )
            scale = ir.Constant(F32, 1 / (source.height * source.width))
            mean = e.builder.fmul(self._sum(e, plane), scale)
            offset = e.add(e.mul(channel, output.plane_bytes), e.mul(image, sample_bytes))
            e.store(mean, e.add(e.arg("output"), offset))
        return e.text()

    def _sum(self, e: Emitter, plane: ir.Value) -> ir.Value:
        """Return the sum of the plane at an address."""
        accumulators = [e.variable(e.splat(0.0)) for _ in range(_ACCUMULATORS)]

        def add_block(index: ir.Value, count: int) -> None:
            address = e.add(plane, e.mul(index, 4))
            for i in range(ceil_div(count, self.lanes)):
                value = e.load(address, e.vector, 4 * i * self.lanes)
                value = keep_first(e, value, count - i * self.lanes)
                e.builder.store(e.builder.fadd(e.builder.load(accumulators[i]), value), accumulators[i])

        extent = self.input.extent
        block_loop(e, 0, extent, extent, _ACCUMULATORS * self.lanes, add_block)
        values = [e.builder.load(variable) for variable in accumulators]
        while len(values) > 1:
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [e.builder.fadd(left, right) for left, right in pairs]
        return sum_of_elements(e, values[0])
