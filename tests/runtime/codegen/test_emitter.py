"""The emitter's instructions against NumPy: arguments, integers, loops, variables, vectors."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from tests.runtime.kernels.guarded import copied, guarded, run

from gpmt.runtime.codegen.emitter import F32, Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel


@dataclass(frozen=True)
class IntegersKernel(FixedSizeKernel):
    """Writes results of integer instructions on the two elements of "input", and those of a loop."""

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output", "factor")

    divisor: int
    items: int = 1

    def emit(self):
        e = Emitter(4, self.ARGS)
        left, right = e.int64s("input", 2)
        total = e.variable(e.mul(left, 0))
        with e.loop(left, right, 3) as index:
            e.builder.store(e.add(e.builder.load(total), index), total)
        results = [
            e.minimum(left, right), e.maximum(left, right), *e.divmod(right, self.divisor),
            e.builder.mul(left, e.arg("factor")), e.builder.load(total),
        ]  # fmt: skip
        for i, result in enumerate(results):
            e.store(result, e.arg("output"), 8 * i, align=8)
        return e.text()


@dataclass(frozen=True)
class VectorsKernel(FixedSizeKernel):
    """Writes results of vector instructions on "input" [2, lanes], under a mask int32 [lanes]."""

    ARGS: ClassVar[tuple[str, ...]] = ("input", "mask", "output")

    lanes: int
    items: int = 1

    def emit(self):
        e = Emitter(self.lanes, self.ARGS)
        step = 4 * self.lanes
        source, output = e.arg("input"), e.arg("output")
        left, right = (e.load(source, e.vector, i * step) for i in range(2))
        first = e.splat(e.load(source, F32))
        mask = e.load(e.arg("mask"), e.mask)
        for i, result in enumerate([e.fma(left, right, first), e.apply_mask(left, mask), e.splat(2.5)]):
            e.store(result, output, i * step)
        e.prefetch(source, step)
        e.prefetch(output, write=True)
        return e.text()


@pytest.mark.parametrize("divisor", [1, 7])
@pytest.mark.parametrize(("left", "right"), [(2, 20), (20, 2), (5, 5)])
def test_integers_and_loops(left, right, divisor):
    output = guarded(6, np.int64)
    args = {"input": copied(np.array([left, right], np.int64)), "output": output, "factor": -3}
    run(IntegersKernel(divisor), args)
    total = sum(range(left, right, 3))
    assert [*output] == [min(left, right), max(left, right), *divmod(right, divisor), -3 * left, total]


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_vectors(lanes):
    source = np.random.default_rng(0).integers(-9, 9, (2, lanes)).astype(np.float32)
    mask = np.where(np.arange(lanes) % 3, -1, 0).astype(np.int32)
    output = guarded(3 * lanes).reshape(3, lanes)
    run(VectorsKernel(lanes), {"input": copied(source), "mask": copied(mask), "output": output})
    left, right = source
    expected = [left * right + left[0], np.where(mask, left, 0), np.full(lanes, 2.5)]
    np.testing.assert_array_equal(output, expected)


def test_arguments_are_named():
    with pytest.raises(ValueError, match="is not in list"):
        Emitter(4, ("input",)).arg("output")
