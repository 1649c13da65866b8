"""Convolutions on tiles of planes, for the sparse and the dense kernel.

A plane of the output is split into *tiles* of a few vectors. A tap is one offset for all pixels, so a tile's
accumulators of a filter, which are registers, take whole vectors of the input. The filters are split into *parts*, so
that several threads can work on one tile.

    input     planes; strided convolutions read the phases of their stride
    output    planes [images, filters, height, width]
    residual  planes like the output's, or not given
    mask      int32 [extent, rounded up to whole cache lines]: -1 for pixels of the output, 0 for padding

    item = (image · tiles + tile) · parts + part

Reads the zeros around the images that the windows reach, and whole vectors behind the last row of a plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.codegen.tiles import Tiles
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True, kw_only=True)
class TiledConvCode:
    """The parameters of the machine code, which layers of all sizes share.

    Attributes:
        lanes: elements of a vector register.
        tile_size: vectors of a large tile; small ones have one less.
        uneven: whether there are small tiles.
        residual: whether a residual is added before the activation.
        activation: is applied to the result.
    """

    lanes: int
    tile_size: int
    uneven: bool = False
    residual: bool = False
    activation: Activation = IDENTITY

    def offset(self, vector: int) -> int:
        """Return the bytes from the first vector of a tile to another."""
        return FLOAT_BYTES * self.lanes * vector


@dataclass(frozen=True, kw_only=True)
class TiledConvKernel(KernelSpec):
    """A convolution on tiles.

    Attributes:
        lanes: elements of a vector register.
        tiles: of the output's planes.
        input, output: layouts.
        residual: layout of the planes that are added before the activation, or None.
        activation: is applied to the result.
        parts: into how many parts the filters are split.
    """

    OPTIONAL_ARGS: ClassVar[tuple[str, ...]] = ("residual",)

    lanes: int
    tiles: Tiles
    input: Planes
    output: Planes
    residual: Planes | None = None
    activation: Activation = IDENTITY
    parts: int = 1

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.output.images * self.tiles.count * self.parts

    def described(self, **counts: int) -> str:
        """Return the kernel's name, its tiles, and the counts that are not 1."""
        words = [f"{name} {count}" for name, count in counts.items() if count != 1]
        return " ".join([super().description, f"{self.tiles.count} tiles of {self.tiles.size}", *words])

    @property
    def image_strides(self) -> tuple[int, int, int]:
        """Bytes from an image to the next of input, output and residual."""
        return (
            self.input.image_bytes,
            self.output.image_bytes,
            self.residual.image_bytes if self.residual else 0,
        )

    @property
    def plane_strides(self) -> tuple[int, int]:
        """Bytes from a channel to the next of output and residual."""
        return self.output.plane_bytes, self.residual.plane_bytes if self.residual else 0


def split_item(e: Emitter, tiles: ir.Value, parts: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the item's image, tile and part."""
    rest, part = e.builder.udiv(e.item, parts), e.builder.urem(e.item, parts)
    return e.builder.udiv(rest, tiles), e.builder.urem(rest, tiles), part


def tile_address(
    e: Emitter, arg: str, image: ir.Value, image_bytes: ir.Value, tile_bytes: ir.Value
) -> ir.Value:
    """Return the address of a tile in channel 0 of an image, in the planes at an argument."""
    return e.add(e.add(e.arg(arg), e.builder.mul(image, image_bytes)), tile_bytes)
