"""Images times one factor for each channel of each image, as in squeeze and excitation.

The loops and arguments are those of `shared/pointwise.py`, but right has one pixel for each channel of each image.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.kernels.shared.pointwise import LoadVector, PointwiseCode, PointwiseKernel
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True)
class GateCode(PointwiseCode):
    """The code of `GateKernel`."""

    def constants(self, e: Emitter, channel: ir.Value, right: ir.Value | None) -> tuple[ir.Value, ...]:
        """Return a vector of the channel's factor."""
        return (e.splat(e.load(right, F32)),)

    def compute(
        self, e: Emitter, left: ir.Value, load_right: LoadVector, constants: tuple[ir.Value, ...]
    ) -> ir.Value:
        """Return left · factor."""
        (factor,) = constants
        return e.builder.fmul(left, factor)


@dataclass(frozen=True)
class GateKernel(PointwiseKernel):
    """output = activation(left · right).

    Right has the layout of images of one pixel, Planes(images, channels, 1, 1), or of vectors, Planes(1, channels, 1,
    images).
    """

    CODE = GateCode

    @property
    def _read_alike(self) -> tuple[Planes, ...]:
        return self.left, self.output

    @property
    def _right_image_bytes(self) -> int:
        return self.right.image_bytes if self.right.images > 1 else FLOAT_BYTES
