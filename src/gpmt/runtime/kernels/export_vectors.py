"""Vectors out of planes of features, to a contiguous tensor.

Loops: cache line of samples → block of samples → block of features; a block is transposed in registers.

    input   vectors, Planes(1, features, 1, samples)
    output  contiguous tensor [samples, features]

Reads whole vectors behind the last sample of a feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.shuffles import store_first, transpose
from gpmt.runtime.codegen.work_split import RowSplitKernel, WorkSplit
from gpmt.runtime.kernels.shared.transposed_blocks import split_vectors, vectors_loop
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True)
class ExportVectorsKernel(RowSplitKernel):
    """Vectors to a tensor.

    Attributes:
        lanes: elements of a vector register.
        input: the layout.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    input: Planes

    @property
    def _split(self) -> WorkSplit:
        return split_vectors(self.input)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        item = self._split.item(e)
        plane_bytes, row_bytes = self.input.plane_bytes, FLOAT_BYTES * self.input.channels

        def block(sample: ir.Value, samples: int, feature: ir.Value, features: int) -> None:
            source = e.add(e.arg("input"), e.add(e.mul(feature, plane_bytes), e.mul(sample, 4)))
            columns = [e.load(source, e.vector, i * plane_bytes) for i in range(features)]
            columns += [e.splat(0.0)] * (self.lanes - features)
            target = e.add(e.arg("output"), e.add(e.mul(sample, row_bytes), e.mul(feature, 4)))
            for i, row in enumerate(transpose(e, columns)[:samples]):
                store_first(e, row, target, features, i * row_bytes)

        vectors_loop(e, item, self.input, block)
        return e.text()
