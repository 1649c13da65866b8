"""Sparse linear layers of few samples: for every weight that is not zero, one multiply-add of the samples' feature.

In memory the features are cache lines apart, so an item first copies them to its stack, where a weight finds the
feature of all samples at once in the L1 cache. Filters are sorted by their number of weights, so that the processor
predicts the ends of the loops well. Their weights come in *quads*, one weight for each of four sums, as a
multiply-add has to wait for the one before it of the same sum; weights of 0 on a feature of 0 fill the last quad.

Loops: filters of the item → quads.

    input    vectors, Planes(1, features, 1, samples)
    output   vectors, Planes(1, filters, 1, samples)
    indices  uint16 [quads, 4]: the weights' features
    values   float32 [quads, 4]: the weights
    rows     int32 [filters, 3]: number of quads, offset of the output's feature in bytes, bias (float32)
    parts    int64 [items, 3]: first row, and the one behind the last, first quad

Reads nothing but the elements of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.emitter import F32, I16, I32, I64, Emitter, float_constant
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.loops import block_loop
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.kernels.shared.filter_groups import balanced_parts
from gpmt.runtime.layout.planes import Planes

MOST_SAMPLES = 4
MOST_COPIED = 1 << 15  # elements on a thread's stack: 128 KiB
_QUAD = 4
_UNROLL = 8  # features that are copied at once


@dataclass(frozen=True)
class SparseGemvKernel(FixedSizeKernel):
    """output [samples, filters] = activation(input [samples, features] · weightᵀ + bias).

    Attributes:
        input, output: layouts.
        parts: into how many items of about equal work the filters are split.
        activation: is applied to the result.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "indices", "values", "rows", "parts")

    input: Planes
    output: Planes
    parts: int = 1
    activation: Activation = IDENTITY

    @staticmethod
    def fits(features: int, samples: int) -> bool:
        """Return whether the kernel can compute a layer of this size."""
        return samples <= MOST_SAMPLES and (features + 1) * _width(samples) <= MOST_COPIED

    @property
    def items(self) -> int:
        """Number of work items."""
        return self.parts

    @property
    def description(self) -> str:
        """The kernel's name and parameters, for tables."""
        return f"SparseGemv {self.parts} parts"

    def pack_weights(
        self, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> dict[str, NDArray[np.generic]]:
        """Return the arguments "indices", "values", "rows" and "parts".

        Args:
            weight: [filters, features].
            bias: [filters].
        """
        filters, features = weight.shape
        counts = np.count_nonzero(weight, axis=1)
        quads = -(-counts // _QUAD)
        part = balanced_parts(counts, self.parts)
        order = np.lexsort((counts, part))
        first = np.cumsum(quads[order]) - quads[order]
        indices = np.full((int(quads.sum()), _QUAD), features, np.uint16)
        values = np.zeros(indices.shape, np.float32)
        filter_of, feature = np.nonzero(weight)
        begin = np.empty(filters, np.int64)
        begin[order] = _QUAD * first
        place = begin[filter_of] + np.arange(len(feature)) - (np.cumsum(counts) - counts)[filter_of]
        indices.reshape(-1)[place] = feature
        values.reshape(-1)[place] = weight[filter_of, feature]
        rows = np.stack(
            [quads[order], order * self.output.plane_bytes, bias[order].view(np.int32)], axis=1
        ).astype(np.int32)
        stops = np.cumsum(np.bincount(part, minlength=self.parts))
        starts = np.concatenate([[0], stops[:-1]])
        first = np.append(first, 0)  # of a part without filters, which reads none
        return {
            "indices": indices, "values": values, "rows": rows,
            "parts": np.stack([starts, stops, first[starts]], axis=1).astype(np.int64),
        }  # fmt: skip

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        samples = self.output.width
        width = _width(samples)
        e = Emitter(width, self.ARGS)
        kind = F32 if width == 1 else e.vector
        copied = self._copy_features(e, kind)
        entry = e.add(e.arg("parts"), e.mul(e.item, 24))
        start, stop, quad = (e.load(entry, I64, 8 * i, align=8) for i in range(3))
        index = e.variable(e.add(e.arg("indices"), e.mul(quad, 2 * _QUAD)))
        value = e.variable(e.add(e.arg("values"), e.mul(quad, 4 * _QUAD)))
        with e.loop(start, stop) as number:
            row = e.add(e.arg("rows"), e.mul(number, 12))
            zero = float_constant(kind, 0.0)
            bias = _broadcast(e, e.load(row, F32, 8), kind)
            sums = [e.variable(bias), *(e.variable(zero) for _ in range(_QUAD - 1))]
            indices, values = e.builder.load(index), e.builder.load(value)
            quads = e.builder.sext(e.load(row, I32), I64)
            with e.loop(0, quads) as i:
                for j, total in enumerate(sums):
                    offset = e.add(indices, e.mul(i, 2 * _QUAD))
                    feature = e.builder.zext(e.load(offset, I16, 2 * j, align=2), I64)
                    weight = _broadcast(e, e.load(e.add(values, e.mul(i, 4 * _QUAD)), F32, 4 * j), kind)
                    loaded = e.load(e.add(copied, e.mul(feature, 4 * width)), kind, align=4 * width)
                    e.builder.store(e.fma(loaded, weight, e.builder.load(total)), total)
            e.builder.store(e.add(indices, e.mul(quads, 2 * _QUAD)), index)
            e.builder.store(e.add(values, e.mul(quads, 4 * _QUAD)), value)
            a, b, c, d = (e.builder.load(total) for total in sums)
            result = activate(e, e.builder.fadd(e.builder.fadd(a, b), e.builder.fadd(c, d)), self.activation)
            target = e.add(e.arg("output"), e.builder.sext(e.load(row, I32, 4), I64))
            for sample in range(samples):
                e.store(_element(e, result, sample), target, 4 * sample)
        return e.text()

    def _copy_features(self, e: Emitter, kind: ir.Type) -> ir.Value:
        """Copy the input [features, samples] to the stack, followed by zeros, and return the address."""
        features, samples, width = self.input.channels, self.output.width, e.lanes
        stack = e.builder.alloca(ir.ArrayType(kind, features + 1))
        stack.align = 64
        copied = e.builder.ptrtoint(stack, I64)

        def copy(feature: ir.Value, count: int) -> None:
            source = e.add(e.arg("input"), e.mul(feature, self.input.plane_bytes))
            target = e.add(copied, e.mul(feature, 4 * width))
            for i in range(count):
                values = [e.load(source, F32, i * self.input.plane_bytes + 4 * s) for s in range(samples)]
                e.store(_joined(e, values, kind), target, 4 * width * i, align=4 * width)

        block_loop(e, 0, features, features, _UNROLL, copy)
        e.store(float_constant(kind, 0.0), copied, 4 * width * features, align=4 * width)
        return copied


def _width(samples: int) -> int:
    """Return how many elements a feature has on the stack: those of a register of SSE or NEON, if not one."""
    return 1 if samples == 1 else 4


def _broadcast(e: Emitter, value: ir.Value, kind: ir.Type) -> ir.Value:
    return e.splat(value) if isinstance(kind, ir.VectorType) else value


def _joined(e: Emitter, values: list[ir.Value], kind: ir.Type) -> ir.Value:
    """Return one value, or a vector of several and zeros."""
    if not isinstance(kind, ir.VectorType):
        return values[0]
    joined: ir.Value = float_constant(kind, 0.0)
    for i, value in enumerate(values):
        joined = e.builder.insert_element(joined, value, ir.Constant(I32, i))
    return joined


def _element(e: Emitter, value: ir.Value, index: int) -> ir.Value:
    if isinstance(value.type, ir.VectorType):
        return e.builder.extract_element(value, ir.Constant(I32, index))
    return value
