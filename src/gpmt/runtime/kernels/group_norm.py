"""Group norm: images normalised over all pixels of a group of channels.

Loops: channels of the group → vectors of the plane, three times: sum, sum of squared differences, result. Each plane
is summed on its own, so that sums of many numbers keep their digits.

    input, output  planes [images, channels, height, width] of one pitch
    weight, bias   [channels]
    mask           int32 [extent, rounded up to whole cache lines]: -1 for pixels, 0 for padding

    item = image · groups + group

Reads whole vectors behind the last row of a plane.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.addresses import image_address
from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.kernels.shared.vector_sums import sum_of_elements
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True)
class GroupNormKernel(FixedSizeKernel):
    """A normalisation of groups of channels.

    Attributes:
        lanes: elements of a vector register.
        input, output: layouts.
        groups: of channels.
        epsilon: is added to the variance.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "weight", "bias", "mask")

    lanes: int
    input: Planes
    output: Planes
    groups: int
    epsilon: float

    def __post_init__(self) -> None:
        assert self.input.pitch == self.output.pitch, "input and output have different pitches"

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.input.images * self.groups

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        builder, size = e.builder, self.input.channels // self.groups
        image, group = e.divmod(e.item, self.groups)
        source, target = (
            image_address(e, name, planes, image)
            for name, planes in (("input", self.input), ("output", self.output))
        )
        first = e.mul(group, size)
        channels = first, e.add(first, size)
        share = ir.Constant(F32, 1 / (size * self.input.height * self.input.width))
        mean = builder.fmul(self._sum(e, source, channels, e.apply_mask), share)
        means = e.splat(mean)

        def square(value: ir.Value, mask: ir.Value) -> ir.Value:
            difference = e.apply_mask(builder.fsub(value, means), mask)
            return builder.fmul(difference, difference)

        variance = builder.fmul(self._sum(e, source, channels, square), share)
        deviation = e.square_root(e.splat(builder.fadd(variance, ir.Constant(F32, self.epsilon))))
        scale = builder.fdiv(e.splat(1.0), deviation)
        with e.loop(*channels) as channel:
            weight, bias = (
                e.splat(e.load(e.add(e.arg(name), e.mul(channel, FLOAT_BYTES)), F32))
                for name in ("weight", "bias")
            )
            factor = builder.fmul(weight, scale)
            plane, out = (
                e.add(address, e.mul(channel, planes.plane_bytes))
                for address, planes in ((source, self.input), (target, self.output))
            )
            with self._vectors(e) as offset:
                difference = builder.fsub(e.load(e.add(plane, offset), e.vector), means)
                mask = e.load(e.add(e.arg("mask"), offset), e.mask)
                e.store(e.apply_mask(e.fma(difference, factor, bias), mask), e.add(out, offset))
        return e.text()

    def _vectors(self, e: Emitter) -> AbstractContextManager[ir.Value]:
        """Return a loop over the bytes from the first vector of a plane to the others."""
        step = FLOAT_BYTES * self.lanes
        return e.loop(0, step * ceil_div(self.input.extent, self.lanes), step)

    def _sum(
        self,
        e: Emitter,
        source: ir.Value,
        channels: tuple[ir.Value, ir.Value],
        term: Callable[[ir.Value, ir.Value], ir.Value],
    ) -> ir.Value:
        """Return the sum of a term over the group, given a vector of pixels and its mask."""
        builder = e.builder
        total = e.variable(e.splat(0.0))
        with e.loop(*channels) as channel:
            plane = e.add(source, e.mul(channel, self.input.plane_bytes))
            part = e.variable(e.splat(0.0))
            with self._vectors(e) as offset:
                value = e.load(e.add(plane, offset), e.vector)
                mask = e.load(e.add(e.arg("mask"), offset), e.mask)
                builder.store(builder.fadd(builder.load(part), term(value, mask)), part)
            builder.store(builder.fadd(builder.load(total), builder.load(part)), total)
        return sum_of_elements(e, builder.load(total))
