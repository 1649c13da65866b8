"""Operators that make each number of a channel from the same place of their inputs: scale, sum, product, copy.

Planes are taken as lines of numbers, pads included, so inputs and output share their pitch; a mask keeps pads zero.

    item     (image · parts of the channels + part of the channels) · parts of the plane + part of the plane
    numbers  int64 [12]: channels, channels of a part, parts; vectors of a plane, of a part, parts; bytes from an
             image to the next of left, right and output, and from a channel to the next
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import F32, I64, Emitter
from gpmt.runtime.codegen.loops import least
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.layout.planes import Planes

_UNROLLED = 4
_WORK = 2048  # vectors of an item: some microseconds

Kind = Literal["affine", "add", "multiply", "gate", "copy"]


@dataclass(frozen=True)
class PointwiseCode:
    """What the machine code depends on; layers of all sizes share it."""

    lanes: int
    kind: Kind
    activation: Activation = IDENTITY

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        builder = e.builder
        numbers = [e.load(e.arg(6), I64, 8 * i, align=8) for i in range(12)]
        channels, channels_each, channel_parts, vectors, vectors_each, vector_parts = numbers[:6]
        images, planes = numbers[6:9], numbers[9:]
        place, part = builder.udiv(e.item, vector_parts), builder.urem(e.item, vector_parts)
        image, group = builder.udiv(place, channel_parts), builder.urem(place, channel_parts)
        begin, first = builder.mul(part, vectors_each), builder.mul(group, channels_each)
        end = least(e, e.add(begin, vectors_each), vectors)
        step = 4 * self.lanes
        with e.loop(first, least(e, e.add(first, channels_each), channels)) as channel:
            left, right, output = (
                e.add(e.arg(i), e.add(builder.mul(image, images[i]), builder.mul(channel, planes[i])))
                for i in range(3)
            )
            scale = shift = None
            if self.kind == "affine":
                scale, shift = (e.splat(e.load(e.add(e.arg(i), e.mul(channel, 4)), F32)) for i in (3, 4))
            elif self.kind == "gate":
                scale = e.splat(e.load(right, F32))

            def vector(offset: ir.Value, bases: tuple[ir.Value, ...] = (left, right, output),
                       scale: ir.Value = scale, shift: ir.Value = shift) -> None:  # fmt: skip
                left, right, output = bases
                value = e.load(e.add(left, offset), e.vector)
                if self.kind == "affine":
                    value = e.fma(value, scale, shift)
                elif self.kind == "gate":
                    value = builder.fmul(value, scale)
                elif self.kind != "copy":
                    combine = builder.fadd if self.kind == "add" else builder.fmul
                    value = combine(value, e.load(e.add(right, offset), e.vector))
                if self.kind != "copy":  # whose pads are zero already
                    value = e.activate(value, self.activation)
                    value = e.keep(value, e.load(e.add(e.arg(5), offset), e.mask))
                e.store(value, e.add(output, offset))

            start, stop = e.mul(begin, step), e.mul(end, step)
            together = step * _UNROLLED
            whole = e.add(start, e.mul(e.divmod(builder.sub(stop, start), together)[0], together))
            with e.loop(start, whole, together) as offset:
                for i in range(_UNROLLED):
                    vector(e.add(offset, i * step))
            with e.loop(whole, stop, step) as offset:
                vector(offset)
        return e.text()


@dataclass(frozen=True)
class PointwiseKernel:
    """How planes are cut into items; operators with one input have it on both sides."""

    lanes: int
    left: Planes
    right: Planes
    output: Planes
    activation: Activation = IDENTITY

    ARGS: ClassVar[tuple[str, ...]] = ("left", "right", "output", "scale", "shift", "mask", "numbers")
    KIND: ClassVar[Kind]

    def __post_init__(self) -> None:
        pitches = {planes.pitch for planes in self._in_step}
        assert len(pitches) == 1, "planes of several pitches"

    @property
    def _in_step(self) -> tuple[Planes, ...]:
        """What is gone through number by number."""
        return self.left, self.right, self.output

    @property
    def code(self) -> PointwiseCode:
        """What the machine code depends on."""
        return PointwiseCode(self.lanes, self.KIND, self.activation)

    @property
    def channels(self) -> int:
        """Channels to go through."""
        return self.left.channels

    @property
    def vectors(self) -> int:
        """Vectors of a plane."""
        return ceil_div(self.left.extent, self.lanes)

    @property
    def vectors_each(self) -> int:
        """Vectors of an item's plane."""
        return min(self.vectors, _WORK)

    @property
    def channels_each(self) -> int:
        """Channels of an item."""
        return max(1, min(self.channels, _WORK // self.vectors))

    @property
    def _parts(self) -> tuple[int, int]:
        return ceil_div(self.channels, self.channels_each), ceil_div(self.vectors, self.vectors_each)

    @property
    def items(self) -> int:
        """Pieces of work."""
        channels, vectors = self._parts
        return self.left.images * channels * vectors

    def numbers(self) -> NDArray[np.int64]:
        """Return the sizes that the kernel reads."""
        channels, vectors = self._parts
        sizes = self.channels, self.channels_each, channels, self.vectors, self.vectors_each, vectors
        images = self.left.image_stride, self._right_image, self.output.image_stride
        planes = self.left.plane_stride, self.right.plane_stride, self.output.plane_stride
        return np.array([*sizes, *(4 * step for step in (*images, *planes))], np.int64)

    @property
    def _right_image(self) -> int:
        """Numbers from an image of right to the next."""
        return self.right.image_stride


@dataclass(frozen=True)
class AffineKernel(PointwiseKernel):
    """output = activation(scale · left + shift), with a scale and a shift (float32 [channels]) for each channel."""

    KIND = "affine"


@dataclass(frozen=True)
class AddKernel(PointwiseKernel):
    """output = activation(left + right)."""

    KIND = "add"


@dataclass(frozen=True)
class MultiplyKernel(PointwiseKernel):
    """output = activation(left · right)."""

    KIND = "multiply"


@dataclass(frozen=True)
class GateKernel(PointwiseKernel):
    """output = activation(left · right), where right has one number for each channel of each image.

    The images of right have one pixel, or it is vectors: Planes(1, channels, 1, images).
    """

    KIND = "gate"

    @property
    def _in_step(self) -> tuple[Planes, ...]:
        return self.left, self.output

    @property
    def _right_image(self) -> int:
        return self.right.image_stride if self.right.images > 1 else 1


@dataclass(frozen=True)
class CopyKernel(PointwiseKernel):
    """All channels of left, or as many as the output has; addresses say where they begin."""

    KIND = "copy"

    @property
    def channels(self) -> int:
        """Channels to go through."""
        return min(self.left.channels, self.output.channels)
