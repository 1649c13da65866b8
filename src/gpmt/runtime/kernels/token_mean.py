"""The mean of every feature over the tokens of each sample.

Loops: feature → sample → vectors of tokens.

    input   vectors, Planes(1, features, 1, samples · tokens)
    output  vectors, Planes(1, features, 1, samples)
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.loops import RowVector, row_loop
from gpmt.runtime.codegen.shuffles import load_first
from gpmt.runtime.codegen.work_split import WorkSplit
from gpmt.runtime.kernels.shared.planes_kernel import PlanesKernel
from gpmt.runtime.kernels.shared.vector_sums import sum_of_elements
from gpmt.runtime.layout.planes import FLOAT_BYTES


@dataclass(frozen=True)
class TokenMeanKernel(PlanesKernel):
    """Means of features; attributes as in `PlanesKernel`."""

    @property
    def _split(self) -> WorkSplit:
        # An item has all samples of a feature, since their means are in one cache line.
        return WorkSplit.of(1, self.input.channels, 1, self.input.plane_stride)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        item = self._split.item(e)
        samples = self.output.width
        tokens = self.input.width // samples
        with e.loop(*item.channels) as feature, e.loop(0, samples) as sample:
            plane = e.add(e.arg("input"), e.mul(feature, self.input.plane_bytes))
            row = e.add(plane, e.mul(sample, FLOAT_BYTES * tokens))
            total = e.variable(e.splat(0.0))

            def add(vector: RowVector, row: ir.Value = row, total: ir.Value = total) -> None:
                value = load_first(e, e.add(row, e.mul(vector.x, FLOAT_BYTES)), vector.pixels)
                e.builder.store(e.builder.fadd(e.builder.load(total), value), total)

            row_loop(e, tokens, tokens, add)
            mean = e.builder.fmul(sum_of_elements(e, e.builder.load(total)), ir.Constant(F32, 1 / tokens))
            target = e.add(e.arg("output"), e.mul(feature, self.output.plane_bytes))
            e.store(mean, e.add(target, e.mul(sample, FLOAT_BYTES)))
        return e.text()
