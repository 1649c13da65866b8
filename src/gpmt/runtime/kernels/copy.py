"""A copy of channels, for concatenation and slices; the loops and arguments are those of `shared/pointwise.py`.

The addresses of left and output are those of the first channel to read and to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.kernels.shared.pointwise import LoadVector, PointwiseCode, PointwiseKernel


@dataclass(frozen=True)
class CopyCode(PointwiseCode):
    """The code of `CopyKernel`."""

    ARGS: ClassVar[tuple[str, ...]] = ("left", "output", "mask", "sizes")

    def compute(
        self, e: Emitter, left: ir.Value, load_right: LoadVector, constants: tuple[ir.Value, ...]
    ) -> ir.Value:
        """Return left."""
        return left


@dataclass(frozen=True)
class CopyKernel(PointwiseKernel):
    """output = all channels of left, or as many as the output has."""

    ARGS = CopyCode.ARGS
    CODE = CopyCode

    @property
    def channels(self) -> int:
        """Channels that are copied."""
        return min(self.left.channels, self.output.channels)
