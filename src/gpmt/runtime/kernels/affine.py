"""A scale and a shift for each channel; the loops are those of `shared/pointwise.py`.

Arguments beside those in `shared/pointwise.py`:

    scale, shift  [channels]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.kernels.shared.pointwise import LoadVector, PointwiseCode, PointwiseKernel
from gpmt.runtime.layout.planes import FLOAT_BYTES


@dataclass(frozen=True)
class AffineCode(PointwiseCode):
    """The code of `AffineKernel`."""

    ARGS: ClassVar[tuple[str, ...]] = ("left", "output", "scale", "shift", "mask", "sizes")

    def constants(self, e: Emitter, channel: ir.Value, right: ir.Value | None) -> tuple[ir.Value, ...]:
        """Return vectors of the channel's scale and shift."""
        return tuple(
            e.splat(e.load(e.add(e.arg(name), e.mul(channel, FLOAT_BYTES)), F32))
            for name in ("scale", "shift")
        )

    def compute(
        self, e: Emitter, left: ir.Value, load_right: LoadVector, constants: tuple[ir.Value, ...]
    ) -> ir.Value:
        """Return left · scale + shift."""
        scale, shift = constants
        return e.fma(left, scale, shift)


@dataclass(frozen=True)
class AffineKernel(PointwiseKernel):
    """output = activation(left · scale + shift)."""

    ARGS = AffineCode.ARGS
    CODE = AffineCode
