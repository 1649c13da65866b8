"""What the code of a layer consists of; what it computes is tested with the kernel that calls it."""

import numpy as np
import pytest
from tests.runtime.machine_code.layers import code_of, count, drawn, instructions

from gpmt.runtime.ir.activation import IDENTITY, RELU6
from gpmt.runtime.machine_code.instruction_stream import Shape

pytest.importorskip("capstone")


def test_a_multiply_add_for_every_weight_and_a_load_for_every_tap_of_a_group():
    weight = drawn(50, 300, 0.1)
    code = code_of(weight, 4096 * np.arange(300))
    blocks = instructions(code)
    assert len(blocks) == 2
    for block, part in zip(blocks, (weight[:25], weight[25:]), strict=True):
        taps = (part != 0).any(0).sum()
        assert count(block, "vfmadd231ps") == np.count_nonzero(part)
        assert count(block, "vmovups") == taps + 25  # the stores
        assert count(block, "jne") == 1
    assert code.loads == sum((part != 0).any(0).sum() for part in (weight[:25], weight[25:]))


def test_weights_come_in_the_order_of_the_code_behind_biases_and_bounds():
    weight = drawn(3, 40, 0.4)
    code = code_of(weight, 4096 * np.arange(40), activation=RELU6)
    [[(_, constants, size)]] = code.blocks
    floats = code.data[constants:size].view(np.float32)
    assert floats[:5].tolist() == [0, 1, 2, 0, 6]
    ordered = weight.T[weight.T != 0]
    assert (floats[5 : 5 + len(ordered)] == ordered).all()


def test_passes_divide_the_taps_and_only_the_last_ends_the_filters():
    weight = drawn(10, 90, 0.5)
    first, middle, last = instructions(code_of(weight, 4096 * np.arange(90), Shape(passes=3), residual=4096))
    parts = [weight[:, i : i + 30] for i in (0, 30, 60)]
    assert [count(b, "vfmadd231ps") for b in (first, middle, last)] == [np.count_nonzero(p) for p in parts]
    assert [count(b, "vmaxps") for b in (first, middle, last)] == [0, 0, 10]
    assert [count(b, "vaddps") for b in (first, middle, last)] == [0, 0, 10]
    assert [count(b, "vbroadcastss") for b in (first, middle, last)] == [10, 0, 0]


@pytest.mark.parametrize("shape", [Shape(), Shape(29, 2, True, 3)])
def test_filters_and_groups_without_weights(shape):
    weight = np.zeros((40, 20), np.float32)
    code = code_of(weight, 4096 * np.arange(20), shape, IDENTITY)
    assert code.loads == 0
    assert all(count(block, "vfmadd231ps") == 0 for block in instructions(code))


def test_code_does_not_depend_on_where_it_is():
    weight = drawn(40, 60, 0.3)
    one, other = (code_of(weight, 4096 * np.arange(60)) for _ in range(2))
    assert (one.data == other.data).all()
    assert (one.blocks == other.blocks).all()
