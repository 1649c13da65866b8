"""The base class of kernels that read one buffer of planes and write another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.addresses import image_address
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.work_split import RowSplitKernel
from gpmt.runtime.layout.planes import Planes


@dataclass(frozen=True)
class PlanesKernel(RowSplitKernel):
    """A kernel from planes to planes.

    Attributes:
        lanes: elements of a vector register.
        input, output: layouts.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes
    output: Planes

    def image_addresses(self, e: Emitter, image: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the addresses of an image of the input and of the output."""
        return (
            image_address(e, "input", self.input, image),
            image_address(e, "output", self.output, image),
        )
