"""The peak rate of a processor: multiply-adds of values that are in registers already."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gpmt.runtime.codegen import processor
from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel, load
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool

_ROUNDS = 4096  # of the loop in an item: some 10 µs
_ITEMS = 32  # for each thread in a run


@dataclass(frozen=True)
class PeakKernel(FixedSizeKernel):
    """output[item] = the sum over `chains` vectors x of f(f(... f(0))), where f(x) = x + left · right.

    Without fused multiply-adds f(x) = x · left + right, as the other product would be computed once for all rounds.
    A processor that does two vectors in a cycle, each in four or five, needs ten independent chains.

        output   [items, lanes]
        factors  [2]: left, right

    Attributes:
        lanes: elements of a vector register.
        chains: accumulators, all in registers.
        items: number of work items; each writes a cache line of its own.
        rounds: how often f is applied.
        fused: whether the processor has fused multiply-adds.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("output", "factors")

    lanes: int
    chains: int
    items: int = 1
    rounds: int = _ROUNDS
    fused: bool = True

    @property
    def flops(self) -> int:
        """Floating-point operations of all items."""
        return 2 * self.lanes * self.chains * self.rounds * self.items

    def emit(self) -> str:
        """Return the kernel's LLVM IR."""
        e = Emitter(self.lanes, self.ARGS)
        # The compiler must not know the factors, and the results must be used, or it would remove the loop.
        left, right = (e.splat(e.load(e.arg("factors"), F32, offset)) for offset in (0, 4))
        accumulators = [e.variable(e.splat(0.0)) for _ in range(self.chains)]
        with e.loop(0, self.rounds):
            for chain in accumulators:
                x = e.builder.load(chain)
                e.builder.store(e.fma(left, right, x) if self.fused else e.fma(x, left, right), chain)
        total = e.builder.load(accumulators[0])
        for chain in accumulators[1:]:
            total = e.builder.fadd(total, e.builder.load(chain))
        e.store(total, e.add(e.arg("output"), e.mul(e.item, 4 * self.lanes)))
        return e.text()


def measure(pool: ThreadPool, seconds: float = 0.05) -> float:
    """Return the peak rate of a pool's threads, in floating-point operations per second; a multiply-add is two.

    Args:
        pool: the threads.
        seconds: how long to measure.
    """
    host = processor.host()
    spec = PeakKernel(
        host.lanes, 24 if host.registers >= 32 else 12, _ITEMS * pool.threads, fused=host.kind != "plain"
    )
    output = np.zeros(spec.items * host.lanes, np.float32)
    factors = np.array([0.999, 0.001], np.float32)
    args = np.array([output.ctypes.data, factors.ctypes.data], np.int64)
    table = StepTable([(load(spec), int(args.ctypes.data), spec.items)])
    best = float("inf")
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        pool.run(table)
        best = min(best, time.perf_counter() - start)
    return spec.flops / best
