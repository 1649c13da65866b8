"""Rows of a table, looked up by integers, into vectors.

Loops: cache line of samples → block of samples → block of features; a block is transposed in registers.

    input   integers [samples], contiguous
    table   float32 [rows, features]
    output  vectors, Planes(1, features, 1, samples)

An integer outside of the table reads its last row, so that no input can reach other memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from gpmt.runtime.codegen.emitter import I32, I64, Emitter, constant
from gpmt.runtime.codegen.shuffles import load_first
from gpmt.runtime.codegen.work_split import RowSplitKernel, WorkSplit
from gpmt.runtime.kernels.shared.transposed_blocks import split_vectors, store_transposed, vectors_loop
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes


@dataclass(frozen=True)
class EmbeddingKernel(RowSplitKernel):
    """A lookup.

    Attributes:
        lanes: elements of a vector register.
        output: the layout.
        rows: of the table.
        integer_bytes: of an element of the input, 4 or 8.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "table", "output")

    lanes: int
    output: Planes
    rows: int
    integer_bytes: int = 8

    @property
    def _split(self) -> WorkSplit:
        return split_vectors(self.output)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        item = self._split.item(e)
        row_bytes = FLOAT_BYTES * self.output.channels
        kind = I64 if self.integer_bytes == 8 else I32

        def block(sample: ir.Value, samples: int, feature: ir.Value, features: int) -> None:
            place = e.add(e.arg("input"), e.mul(sample, self.integer_bytes))
            table = e.add(e.arg("table"), e.mul(feature, FLOAT_BYTES))
            rows = []
            for i in range(samples):
                index = e.load(place, kind, i * self.integer_bytes)
                index = index if kind is I64 else e.builder.sext(index, I64)
                inside = e.builder.icmp_unsigned("<", index, constant(self.rows))
                index = e.builder.select(inside, index, constant(self.rows - 1))
                rows.append(load_first(e, e.add(table, e.mul(index, row_bytes)), features))
            target = e.add(e.arg("output"), e.add(e.mul(feature, self.output.plane_bytes), e.mul(sample, 4)))
            store_transposed(e, rows, target, self.output, features)

        vectors_loop(e, item, self.output, block)
        return e.text()
