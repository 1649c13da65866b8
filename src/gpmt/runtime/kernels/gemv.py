"""Dense linear layers of a few samples: filters in the lanes, so that the weights are read once and in their order.

A block of filters is an item; its weights lie as [feature][filter], one vector after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import F32, I32, Emitter
from gpmt.runtime.codegen.loops import Index, stepped
from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.layout.planes import Planes

_FEATURES = 4  # features in a step of the loop


@dataclass(frozen=True)
class GemvKernel:
    """output [samples, filters] = activation(input [samples, features] · weightᵀ + bias), all as vectors.

    Attributes:
        lanes: numbers in a vector.
        input, output: layouts, Planes(1, features or filters, 1, samples).
        vectors: vectors in a block of filters; with the samples they are the sums in registers.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "weights", "bias")

    lanes: int
    input: Planes
    output: Planes
    vectors: int = 2
    activation: Activation = IDENTITY

    @property
    def block(self) -> int:
        """Filters in a block."""
        return self.lanes * self.vectors

    @property
    def items(self) -> int:
        """Pieces of work."""
        return ceil_div(self.output.channels, self.block)

    def pack_weights(
        self, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], ...]:
        """Return what the kernel reads at "weights" [blocks, features, block] and "bias" [blocks, block].

        Args:
            weight: [filters, features].
            bias: [filters].
        """
        filters, features = weight.shape
        whole = np.zeros((self.items * self.block, features), np.float32)
        whole[:filters] = weight
        blocks = whole.reshape(self.items, self.block, features).transpose(0, 2, 1)
        biases = np.zeros(self.items * self.block, np.float32)
        biases[:filters] = bias
        return np.ascontiguousarray(blocks), biases.reshape(self.items, self.block)

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes)
        features, samples, step = self.input.channels, self.output.width, 4 * self.lanes
        weights = e.add(e.arg(2), e.mul(e.item, 4 * features * self.block))
        biases = e.add(e.arg(3), e.mul(e.item, 4 * self.block))
        source = e.arg(0)
        # Without ways of their own, few sums would wait for each other.
        ways = max(1, min(_FEATURES, 8 // (samples * self.vectors)))
        begin = [e.load(biases, e.vector, v * step) for v in range(self.vectors)]
        sums = [
            [[e.variable(value if way == 0 else e.splat(0.0)) for value in begin] for _ in range(samples)]
            for way in range(ways)
        ]

        def products(feature: Index, count: int) -> None:
            row = e.add(weights, e.mul(feature, 4 * self.block))
            place = e.add(source, e.mul(feature, self.input.plane_bytes))
            for i in range(count):
                loaded = [e.load(row, e.vector, 4 * i * self.block + v * step) for v in range(self.vectors)]
                for sample in range(samples):
                    number = e.splat(e.load(place, F32, 4 * i * self.input.plane_stride + 4 * sample))
                    for total, weight in zip(sums[i % ways][sample], loaded, strict=True):
                        e.builder.store(e.fma(weight, number, e.builder.load(total)), total)

        stepped(e, 0, features, features, _FEATURES, products)
        results = []
        for sample in range(samples):
            for v in range(self.vectors):
                values = [e.builder.load(sums[way][sample][v]) for way in range(ways)]
                for value in values[1:]:
                    values[0] = e.builder.fadd(values[0], value)
                results.append(e.activate(values[0], self.activation))
        self._write(e, results, samples)
        return e.text()

    def _write(self, e: Emitter, results: list[ir.Value], samples: int) -> None:
        """Write the numbers of a block, each to the plane of its filter."""

        def block(filters: Index, count: int) -> None:
            target = e.add(e.arg(1), e.mul(filters, self.output.plane_bytes))
            for sample in range(samples):
                for i in range(count):
                    vector = results[sample * self.vectors + i // self.lanes]
                    number = e.builder.extract_element(vector, ir.Constant(I32, i % self.lanes))
                    e.store(number, target, 4 * (i * self.output.plane_stride + sample))

        first = e.mul(e.item, self.block)
        stepped(e, first, e.add(first, self.block), self.output.channels, self.block, block)
