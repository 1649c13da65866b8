"""The sum of two images; the loops and arguments are those of `shared/pointwise.py`."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.kernels.shared.pointwise import LoadVector, PointwiseCode, PointwiseKernel


@dataclass(frozen=True)
class AddCode(PointwiseCode):
    """The code of `AddKernel`."""

    def compute(
        self, e: Emitter, left: ir.Value, load_right: LoadVector, constants: tuple[ir.Value, ...]
    ) -> ir.Value:
        """Return left + right."""
        return e.builder.fadd(left, load_right())


@dataclass(frozen=True)
class AddKernel(PointwiseKernel):
    """output = activation(left + right)."""

    CODE = AddCode
