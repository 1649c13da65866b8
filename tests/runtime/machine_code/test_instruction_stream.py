"""What the instructions between the start and the end of a block have in common for all processors."""

import numpy as np
import pytest
from tests.runtime.machine_code.layers import code_of, count_of, drawn, instructions

from gpmt.runtime.machine_code.instruction_stream import Groups, Order, Shape, changes


@pytest.mark.parametrize("kind", ["avx512", "neon"])
def test_the_next_block_is_prefetched_in_parts(kind):
    pytest.importorskip("capstone")
    weight = drawn(28, 1000, 0.2)
    offsets = 4096 * np.arange(1000)
    code = code_of(kind, weight, offsets, Shape(14, prefetched_over=10))
    for block, other in zip(instructions(kind, code), code.blocks[0][::-1], strict=True):
        assert abs(count_of(kind, block, "prefetch") - other[2] / 64 / 10) < 3
    without = instructions(kind, code_of(kind, weight, offsets, Shape(14)))
    assert all(count_of(kind, block, "prefetch") == 0 for block in without)


@pytest.mark.parametrize(("unit", "place"), [(1, [4, 5, 6, 3]), (4, [8, 9, 10, 8])])
def test_weights_are_in_the_order_of_blocks_taps_and_filters(unit, place):
    weight = np.array([[0, 7], [5, 6], [0, 9]], np.float32)
    groups, shape = Groups.of(weight, Shape(2)), Shape(2)
    assert groups.edges.tolist() == [0, 1, 3]
    assert groups.block.tolist() == [0, 1, 1, 1]
    assert groups.value.tolist() == [7, 5, 6, 9]
    order = Order.of(groups, shape, unit)
    assert order.weights.tolist() == [1, 3]
    assert order.starts.tolist() == [True, True, False, False]
    assert order.new_tap.tolist() == [True, True, True, False]
    assert order.place.tolist() == [place[3], *place[:3]]


def test_changes_are_told_within_a_block():
    wanted, block = np.array([1, 1, 2, 2, 2, 1]), np.array([0, 0, 0, 0, 1, 1])
    uses = np.array([True, True, False, True, True, True])
    assert changes(wanted, uses, block).tolist() == [True, False, False, True, True, True]
