"""Operators on single pixels, for the kernels affine, add, multiply, gate and copy.

Loops: channel → vectors of the plane, four at a time. Planes are contiguous to it, padding included; so inputs and
output have the same pitch, and a mask sets the padding to zero again.

    left, right   planes [images, channels, height, width]; kernels with one input have no right
    output        planes [images, channels, height, width]
    mask          int32 [extent, rounded up to whole cache lines]: -1 for pixels, 0 for padding
    sizes         int64 [12]: channels, channels of an item, channel parts; vectors of a plane, vectors of an item,
                  vector parts; bytes from an image to the next of left, right and output; bytes from a channel to the
                  next of these

    item = (image · channel parts + channel part) · vector parts + vector part

Reads the padding, and whole vectors behind the last row of a plane.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes

LoadVector = Callable[[], ir.Value]

_PLANES = ("left", "right", "output")
_UNROLL = 4
_ITEM_VECTORS = 2048  # some microseconds


@dataclass(frozen=True)
class PointwiseCode(ABC):
    """The parameters of the machine code, which layers of all sizes share."""

    ARGS: ClassVar[tuple[str, ...]] = ("left", "right", "output", "mask", "sizes")

    lanes: int
    activation: Activation = IDENTITY

    def constants(self, e: Emitter, channel: ir.Value, right: ir.Value | None) -> tuple[ir.Value, ...]:
        """Return vectors that `compute` takes for all pixels of a channel; `right` is its address, if any."""
        return ()

    @abstractmethod
    def compute(
        self, e: Emitter, left: ir.Value, load_right: LoadVector, constants: tuple[ir.Value, ...]
    ) -> ir.Value:
        """Return a vector of the result, before the activation.

        Args:
            left: a vector of left.
            load_right: loads the vector of right.
            constants: of the channel.
        """

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        builder = e.builder
        sizes = e.int64s("sizes", 12)
        channels, item_channels, channel_parts, vectors, item_vectors, vector_parts = sizes[:6]
        image_bytes, plane_bytes = sizes[6:9], sizes[9:]
        rest, vector_part = builder.udiv(e.item, vector_parts), builder.urem(e.item, vector_parts)
        image, channel_part = builder.udiv(rest, channel_parts), builder.urem(rest, channel_parts)
        first_vector = builder.mul(vector_part, item_vectors)
        first_channel = builder.mul(channel_part, item_channels)
        end_vector = e.minimum(e.add(first_vector, item_vectors), vectors)
        step = FLOAT_BYTES * self.lanes
        with e.loop(first_channel, e.minimum(e.add(first_channel, item_channels), channels)) as channel:
            planes = {
                name: e.add(
                    e.arg(name), e.add(builder.mul(image, per_image), builder.mul(channel, per_plane))
                )
                for name, per_image, per_plane in zip(_PLANES, image_bytes, plane_bytes, strict=True)
                if name in self.ARGS
            }
            constants = self.constants(e, channel, planes.get("right"))
            start, stop = e.mul(first_vector, step), e.mul(end_vector, step)
            block = step * _UNROLL
            whole = e.add(start, e.mul(e.divmod(builder.sub(stop, start), block)[0], block))
            with e.loop(start, whole, block) as offset:
                for i in range(_UNROLL):
                    self._vector(e, planes, constants, e.add(offset, i * step))
            with e.loop(whole, stop, step) as offset:
                self._vector(e, planes, constants, offset)
        return e.text()

    def _vector(
        self, e: Emitter, planes: Mapping[str, ir.Value], constants: tuple[ir.Value, ...], offset: ir.Value
    ) -> None:
        value = e.load(e.add(planes["left"], offset), e.vector)
        value = self.compute(e, value, lambda: e.load(e.add(planes["right"], offset), e.vector), constants)
        value = activate(e, value, self.activation)
        value = e.apply_mask(value, e.load(e.add(e.arg("mask"), offset), e.mask))
        e.store(value, e.add(planes["output"], offset))


@dataclass(frozen=True)
class PointwiseKernel(KernelSpec):
    """A pointwise operator on planes.

    Attributes:
        lanes: elements of a vector register.
        left, right, output: layouts; kernels with one input have it on both sides.
        activation: is applied to the result.
    """

    ARGS: ClassVar[tuple[str, ...]] = PointwiseCode.ARGS
    CODE: ClassVar[type[PointwiseCode]]

    lanes: int
    left: Planes
    right: Planes
    output: Planes
    activation: Activation = IDENTITY

    def __post_init__(self) -> None:
        pitches = {planes.pitch for planes in self._read_alike}
        assert len(pitches) == 1, f"planes have the pitches {sorted(pitches)}, but must have one"

    @property
    def _read_alike(self) -> tuple[Planes, ...]:
        """The planes that are read and written at one offset."""
        return self.left, self.right, self.output

    @property
    def code(self) -> PointwiseCode:
        """The parameters of the machine code."""
        return self.CODE(self.lanes, self.activation)

    @property
    def channels(self) -> int:
        """Channels of the output that are written."""
        return self.left.channels

    @property
    def vectors(self) -> int:
        """Vectors of a plane."""
        return ceil_div(self.left.extent, self.lanes)

    @property
    def item_vectors(self) -> int:
        """Vectors of a plane in an item."""
        return min(self.vectors, _ITEM_VECTORS)

    @property
    def item_channels(self) -> int:
        """Channels of an item."""
        return max(1, min(self.channels, _ITEM_VECTORS // self.vectors))

    @property
    def items(self) -> int:
        """Number of work items."""
        channel_parts, vector_parts = self._parts
        return self.left.images * channel_parts * vector_parts

    def sizes(self) -> NDArray[np.int64]:
        """Return the argument "sizes"."""
        channel_parts, vector_parts = self._parts
        split = (
            self.channels, self.item_channels, channel_parts,
            self.vectors, self.item_vectors, vector_parts,
        )  # fmt: skip
        image_bytes = self.left.image_bytes, self._right_image_bytes, self.output.image_bytes
        plane_bytes = self.left.plane_bytes, self.right.plane_bytes, self.output.plane_bytes
        return np.array([*split, *image_bytes, *plane_bytes], np.int64)

    @property
    def _parts(self) -> tuple[int, int]:
        """Parts of the channels and of a plane's vectors."""
        return ceil_div(self.channels, self.item_channels), ceil_div(self.vectors, self.item_vectors)

    @property
    def _right_image_bytes(self) -> int:
        return self.right.image_bytes
