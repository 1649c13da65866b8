"""Planes split into tiles: every vector in one tile, and no tile above the maximum."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.codegen.counting import count_up
from tests.runtime.kernels.drawing import few_examples
from tests.runtime.kernels.guarded import copied, run

from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.kernel import FixedSizeKernel
from gpmt.runtime.codegen.tiles import Tiles, emit_tile


@dataclass(frozen=True)
class CountKernel(FixedSizeKernel):
    """Adds one to the count of every vector of a tile."""

    ARGS: ClassVar[tuple[str, ...]] = ("counts",)

    tiles: Tiles

    @property
    def items(self):
        return self.tiles.count

    def emit(self):
        e = Emitter(4, self.ARGS)

        def count(first, vectors):
            for i in range(vectors):
                count_up(e, first, i)

        emit_tile(e, e.item, constant(self.tiles.large), self.tiles.size, self.tiles.uneven, count)
        return e.text()


@given(st.integers(1, 500), st.integers(1, 20))
def test_the_fewest_tiles_of_about_equal_sizes(vectors, max_size):
    tiles = Tiles.of(vectors, max_size)
    assert tiles.count == -(-vectors // max_size)
    assert 0 < tiles.large <= tiles.count
    assert 0 < tiles.size <= max_size
    assert tiles.count * tiles.size - (tiles.count - tiles.large) == vectors


@few_examples
@given(st.integers(1, 100), st.integers(1, 12))
def test_every_vector_is_in_one_tile(vectors, max_size):
    counts = copied(np.zeros(vectors, np.int64))
    run(CountKernel(Tiles.of(vectors, max_size)), {"counts": counts})
    assert (counts == 1).all()
