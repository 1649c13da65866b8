"""Layer norm and RMS norm: each pixel of planes is normalised over its channels; tokens are the pixels of vectors.

Loops: tile of some vectors of pixels → channels, three times: sum, sum of squared differences, result. The means are
subtracted before squares are taken, so that nothing cancels.

    input, output  planes [images, channels, height, width] of one pitch
    weight, bias   [channels]
    mask           int32 [extent, rounded up to whole cache lines]: -1 for pixels, 0 for padding

    item = image · tiles + tile
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.addresses import image_address
from gpmt.runtime.codegen.emitter import F32, Emitter, constant
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.tiles import Tiles, emit_tile
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True)
class LayerNormKernel(FixedSizeKernel):
    """A normalisation over channels.

    Attributes:
        lanes: elements of a vector register.
        input, output: layouts.
        epsilon: is added to the variance.
        centred: whether the mean is subtracted.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "weight", "bias", "mask")

    lanes: int
    input: Planes
    output: Planes
    epsilon: float
    centred: bool = True

    def __post_init__(self) -> None:
        assert self.input.pitch == self.output.pitch, "input and output have different pitches"

    @property
    def _tiles(self) -> Tiles:
        vectors = ceil_div(self.input.extent, self.lanes)
        return Tiles.of(vectors, 1 if vectors < 8 else 2 if vectors < 32 else 4)

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.input.images * self._tiles.count

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        tiles = self._tiles
        image, tile = e.divmod(e.item, tiles.count)
        source, target = (
            image_address(e, name, planes, image)
            for name, planes in (("input", self.input), ("output", self.output))
        )

        def body(start: ir.Value, vectors: int) -> None:
            offset = e.mul(start, FLOAT_BYTES * self.lanes)
            places = e.add(source, offset), e.add(target, offset), e.add(e.arg("mask"), offset)
            self._tile(e, *places, vectors)

        emit_tile(e, tile, constant(tiles.large), tiles.size, tiles.uneven, body)
        return e.text()

    def _tile(self, e: Emitter, source: ir.Value, target: ir.Value, mask: ir.Value, vectors: int) -> None:
        builder, channels = e.builder, self.input.channels
        zero, share = e.splat(0.0), e.splat(1 / channels)
        offsets = [FLOAT_BYTES * self.lanes * t for t in range(vectors)]

        def pixels(channel: ir.Value) -> list[ir.Value]:
            plane = e.add(source, e.mul(channel, self.input.plane_bytes))
            return [e.load(plane, e.vector, offset) for offset in offsets]

        def mean_of(means: list[ir.Value] | None) -> list[ir.Value]:
            """Return the means over the channels, or those of squared differences from means."""
            totals = [e.variable(zero) for _ in offsets]
            with e.loop(0, channels) as channel:
                for t, (total, value) in enumerate(zip(totals, pixels(channel), strict=True)):
                    before = builder.load(total)
                    if means is None:
                        builder.store(builder.fadd(before, value), total)
                    else:
                        difference = builder.fsub(value, means[t])
                        builder.store(e.fma(difference, difference, before), total)
            return [builder.fmul(builder.load(total), share) for total in totals]

        means = mean_of(None) if self.centred else [zero] * vectors
        variances = mean_of(means)
        epsilon, one = e.splat(self.epsilon), e.splat(1.0)
        scales = [builder.fdiv(one, e.square_root(builder.fadd(v, epsilon))) for v in variances]
        masks = [e.load(mask, e.mask, offset) for offset in offsets]
        with e.loop(0, channels) as channel:
            plane = e.add(target, e.mul(channel, self.output.plane_bytes))
            weight, bias = (
                e.splat(e.load(e.add(e.arg(name), e.mul(channel, FLOAT_BYTES)), F32))
                for name in ("weight", "bias")
            )
            for t, value in enumerate(pixels(channel)):
                normal = builder.fmul(builder.fsub(value, means[t]), scales[t])
                result = e.apply_mask(e.fma(normal, weight, bias), masks[t])
                e.store(result, plane, offsets[t])
