"""Dense linear layers of few samples, as a product of a matrix and a vector: weights are read once, in their order.

The filters are in the lanes of vectors. A *group* of filters is a work item. Its accumulators are in registers:

Loops: feature → samples → vectors of the group.

    input    vectors, Planes(1, features, 1, samples)
    output   vectors, Planes(1, filters, 1, samples)
    weights  [filter groups, features, filters of a group]
    bias     [filter groups, filters of a group]

Reads nothing but the elements of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.activations import activate
from gpmt.runtime.codegen.emitter import F32, I32, Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.loops import block_loop
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.kernels.shared.filter_groups import pack_filter_groups
from gpmt.runtime.layout.planes import Planes

_UNROLL = 4  # features
_MIN_ACCUMULATORS = 8  # which hide the latency of a multiply-add


@dataclass(frozen=True)
class GemvKernel(FixedSizeKernel):
    """output [samples, filters] = activation(input [samples, features] · weightᵀ + bias).

    Attributes:
        lanes: elements of a vector register.
        input, output: layouts.
        vectors: vectors of a group of filters.
        activation: is applied to the result.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "weights", "bias")

    lanes: int
    input: Planes
    output: Planes
    vectors: int = 2
    activation: Activation = IDENTITY

    @property
    def filter_group(self) -> int:
        """Filters of a group."""
        return self.lanes * self.vectors

    @property
    def items(self) -> int:
        """Number of work items."""
        return ceil_div(self.output.channels, self.filter_group)

    def pack_weights(
        self, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], ...]:
        """Return the arguments "weights" and "bias".

        Args:
            weight: [filters, features].
            bias: [filters].
        """
        return pack_filter_groups(weight, bias, self.filter_group)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        features, samples, step = self.input.channels, self.output.width, 4 * self.lanes
        weights = e.add(e.arg("weights"), e.mul(e.item, 4 * features * self.filter_group))
        bias = e.add(e.arg("bias"), e.mul(e.item, 4 * self.filter_group))
        source = e.arg("input")
        # Several sets of accumulators, for features in turn: else each multiply-add would depend on the one before.
        sets = max(1, min(_UNROLL, _MIN_ACCUMULATORS // (samples * self.vectors)))
        start = [e.load(bias, e.vector, v * step) for v in range(self.vectors)]
        accumulators = [
            [[e.variable(value if s == 0 else e.splat(0.0)) for value in start] for _ in range(samples)]
            for s in range(sets)
        ]

        def products(feature: ir.Value, count: int) -> None:
            row = e.add(weights, e.mul(feature, 4 * self.filter_group))
            values = e.add(source, e.mul(feature, self.input.plane_bytes))
            for i in range(count):
                loaded = [
                    e.load(row, e.vector, 4 * i * self.filter_group + v * step) for v in range(self.vectors)
                ]
                for sample in range(samples):
                    value = e.splat(e.load(values, F32, i * self.input.plane_bytes + 4 * sample))
                    for total, weight in zip(accumulators[i % sets][sample], loaded, strict=True):
                        e.builder.store(e.fma(weight, value, e.builder.load(total)), total)

        block_loop(e, 0, features, features, _UNROLL, products)
        results = []
        for sample in range(samples):
            for v in range(self.vectors):
                parts = [e.builder.load(accumulators[s][sample][v]) for s in range(sets)]
                total = parts[0]
                for part in parts[1:]:
                    total = e.builder.fadd(total, part)
                results.append(activate(e, total, self.activation))
        self._store(e, results, samples)
        return e.text()

    def _store(self, e: Emitter, results: list[ir.Value], samples: int) -> None:
        """Write the elements of the vectors [samples, vectors] of a group, each to the plane of its filter."""

        def store(first: ir.Value, filters: int) -> None:
            target = e.add(e.arg("output"), e.mul(first, self.output.plane_bytes))
            for sample in range(samples):
                for i in range(filters):
                    vector = results[sample * self.vectors + i // self.lanes]
                    value = e.builder.extract_element(vector, ir.Constant(I32, i % self.lanes))
                    e.store(value, target, i * self.output.plane_bytes + 4 * sample)

        first = e.mul(e.item, self.filter_group)
        block_loop(e, first, e.add(first, self.filter_group), self.output.channels, self.filter_group, store)
