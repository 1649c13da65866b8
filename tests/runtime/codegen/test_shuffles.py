"""Elements of vectors rearranged, against NumPy."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from tests.runtime.kernels.guarded import copied, guarded, run

from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.shuffles import every_second, gather, load_first, reorder, store_first, transpose

LANES = [4, 8, 16]


@dataclass(frozen=True)
class ShuffleKernel(FixedSizeKernel):
    """Writes the result of one function on the elements at "input"."""

    ARGS: ClassVar[tuple[str, ...]] = ("input", "output")

    lanes: int
    function: str
    count: int = 0
    items: int = 1

    def emit(self):
        e = Emitter(self.lanes, self.ARGS)
        source, output, step = e.arg("input"), e.arg("output"), 4 * self.lanes
        match self.function:
            case "first":
                store_first(e, load_first(e, source, self.count), output, self.count)
            case "gather":
                e.store(gather(e, source, 12, self.count), output)
            case "transpose":
                rows = [e.load(source, e.vector, i * step) for i in range(self.lanes)]
                for i, column in enumerate(transpose(e, rows)):
                    e.store(column, output, i * step)
            case "every_second":
                halves = [e.load(source, e.vector, i * step) for i in range(2)]
                e.store(reorder(e, every_second(e, halves, self.count)), output)
        return e.text()


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("side", ["start", "end"])
def test_first_elements(lanes, side):
    for count in range(1, lanes + 1):
        source, output = copied(np.arange(1, count + 1, dtype=np.float32), side), guarded(count, at=side)
        run(ShuffleKernel(lanes, "first", count), {"input": source, "output": output})
        np.testing.assert_array_equal(output, source)


@pytest.mark.parametrize("lanes", LANES)
def test_gather(lanes):
    source = copied(np.arange(3 * lanes - 5, dtype=np.float32))
    output = guarded(lanes)
    run(ShuffleKernel(lanes, "gather", lanes - 1), {"input": source, "output": output})
    np.testing.assert_array_equal(output, [*range(0, 3 * lanes - 3, 3), 0])


@pytest.mark.parametrize("lanes", LANES)
def test_transpose(lanes):
    source, output = copied(np.arange(lanes**2, dtype=np.float32)), guarded(lanes**2)
    run(ShuffleKernel(lanes, "transpose"), {"input": source, "output": output})
    np.testing.assert_array_equal(output.reshape(lanes, lanes), source.reshape(lanes, lanes).T)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("parity", [0, 1])
def test_every_second_element(lanes, parity):
    source, output = copied(np.arange(2 * lanes, dtype=np.float32)), guarded(lanes)
    run(ShuffleKernel(lanes, "every_second", parity), {"input": source, "output": output})
    np.testing.assert_array_equal(output, source[parity::2])
