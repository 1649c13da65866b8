"""Loops over blocks and over the vectors of rows: everything once, nothing beyond."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.codegen.counting import count_up
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples
from tests.runtime.kernels.guarded import copied, guarded, run

from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.loops import block_loop, row_loop


@dataclass(frozen=True)
class RowKernel(FixedSizeKernel):
    """Writes 1 to the pixels of a row and 0 to its padding."""

    ARGS: ClassVar[tuple[str, ...]] = ("row",)

    lanes: int
    width: int
    pitch: int
    items: int = 1

    def emit(self):
        e = Emitter(self.lanes, self.ARGS)
        row_loop(e, self.width, self.pitch, lambda vector: vector.store(e, e.splat(1.0), e.arg("row")))
        return e.text()


@dataclass(frozen=True)
class CountKernel(FixedSizeKernel):
    """Adds one to every count, in blocks; an item has `item_blocks` of them."""

    ARGS: ClassVar[tuple[str, ...]] = ("counts",)

    total: int
    block: int
    item_blocks: int

    @property
    def items(self):
        return -(-self.total // (self.block * self.item_blocks))

    def emit(self):
        e = Emitter(4, self.ARGS)

        def count(start, size):
            for i in range(size):
                count_up(e, start, i)

        start = e.mul(e.item, self.block * self.item_blocks)
        stop = e.minimum(e.add(start, self.block * self.item_blocks), constant(self.total))
        block_loop(e, start, stop, self.total, self.block, count)
        return e.text()


@few_examples
@given(LANES, st.integers(1, 200), st.integers(0, 40) | st.integers(0, 300), SIDES)
def test_every_vector_of_a_row_is_written(lanes, width, padding, side):
    row = guarded(width + padding, at=side)
    row[:] = 7
    run(RowKernel(lanes, width, width + padding), {"row": row})
    assert (row[:width] == 1).all()
    assert (row[width:] == 0).all()


@few_examples
@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 30), SIDES)
def test_every_element_is_in_one_block(total, block, item_blocks, side):
    counts = copied(np.zeros(total, np.int64), side)
    run(CountKernel(total, block, item_blocks), {"counts": counts})
    assert (counts == 1).all()
