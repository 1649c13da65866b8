"""Vectors into planes of features, from the rows of a tensor.

Loops: cache line of samples → block of samples → block of features; a block is transposed in registers.

    input   tensor [samples, features]; the features of a row are contiguous
    output  vectors, Planes(1, features, 1, samples)
    row     integer: bytes from a row of the tensor to the next

Reads nothing but the tensor's elements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.shuffles import load_first
from gpmt.runtime.codegen.work_split import RowSplitKernel, WorkSplit
from gpmt.runtime.kernels.shared.transposed_blocks import split_vectors, store_transposed, vectors_loop
from gpmt.runtime.layout.planes import Planes


@dataclass(frozen=True)
class ImportVectorsKernel(RowSplitKernel):
    """A tensor to vectors.

    Attributes:
        lanes: elements of a vector register.
        output: the layout.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "row")

    lanes: int
    output: Planes

    @property
    def _split(self) -> WorkSplit:
        return split_vectors(self.output)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        item = self._split.item(e)
        row_bytes = e.arg("row")

        def block(sample: ir.Value, samples: int, feature: ir.Value, features: int) -> None:
            row = e.add(e.add(e.arg("input"), e.builder.mul(sample, row_bytes)), e.mul(feature, 4))
            rows = []
            for _ in range(samples):
                rows.append(load_first(e, row, features))
                row = e.add(row, row_bytes)
            target = e.add(e.arg("output"), e.add(e.mul(feature, self.output.plane_bytes), e.mul(sample, 4)))
            store_transposed(e, rows, target, self.output, features)

        vectors_loop(e, item, self.output, block)
        return e.text()
