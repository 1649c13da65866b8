"""What the code of a layer consists of; what it computes is tested with the kernel that calls it."""

import numpy as np
import pytest
from tests.runtime.machine_code.layers import code_of, count_of, drawn, instructions, pixel_loads

from gpmt.runtime.ir.activation import IDENTITY, RELU6
from gpmt.runtime.machine_code.instruction_stream import Shape

pytest.importorskip("capstone")

KINDS = pytest.mark.parametrize("kind", ["avx512", "neon"])


@KINDS
@pytest.mark.parametrize("vectors", [1, 2])
def test_a_multiply_add_for_every_weight_and_a_load_for_every_tap_of_a_group(kind, vectors):
    vectors = 1 if kind == "avx512" else vectors
    weight = drawn(20, 300, 0.1)
    code = code_of(kind, weight, 4096 * np.arange(300), Shape(14, vectors=vectors))
    blocks = instructions(kind, code)
    assert len(blocks) == 2
    parts = weight[:10], weight[10:]
    taps = [(part != 0).any(0).sum() for part in parts]
    for block, part, number in zip(blocks, parts, taps, strict=True):
        assert count_of(kind, block, "multiply-add") == vectors * np.count_nonzero(part)
        assert len(pixel_loads(kind, block)) == vectors * number
        assert count_of(kind, block, "jump") == 1
    assert code.loads == vectors * sum(taps)


@pytest.mark.parametrize(("kind", "bounds", "weights"), [("avx512", 3, 5), ("neon", 4, 8)])
def test_weights_come_in_the_order_of_the_code_behind_biases_and_bounds(kind, bounds, weights):
    weight = drawn(3, 40, 0.4)
    code = code_of(kind, weight, 4096 * np.arange(40), activation=RELU6)
    [[(_, constants, size)]] = code.blocks
    floats = code.data[constants:size].view(np.float32)
    assert floats[:3].tolist() == [0, 1, 2]
    assert floats[bounds : bounds + 2].tolist() == [0, 6]
    ordered = weight.T[weight.T != 0]
    assert (floats[weights : weights + len(ordered)] == ordered).all()


@KINDS
def test_passes_divide_the_taps_and_only_the_last_ends_the_filters(kind):
    weight = drawn(10, 90, 0.5)
    code = code_of(kind, weight, 4096 * np.arange(90), Shape(14, passes=3), residual=4096)
    passes = instructions(kind, code)
    parts = [weight[:, i : i + 30] for i in (0, 30, 60)]
    counts = [count_of(kind, block, "multiply-add") for block in passes]
    assert counts == [np.count_nonzero(part) for part in parts]
    assert [count_of(kind, block, "maximum") for block in passes] == [0, 0, 10]
    assert [count_of(kind, block, "add") - count_of(kind, passes[0], "add") for block in passes] == [0, 0, 10]


@KINDS
@pytest.mark.parametrize("shape", [Shape(6), Shape(6, 2, prefetched_over=3)])
def test_filters_and_groups_without_weights(kind, shape):
    weight = np.zeros((40, 20), np.float32)
    code = code_of(kind, weight, 4096 * np.arange(20), shape, IDENTITY)
    assert code.loads == 0
    assert all(count_of(kind, block, "multiply-add") == 0 for block in instructions(kind, code))


@KINDS
def test_code_does_not_depend_on_where_it_is(kind):
    weight = drawn(40, 60, 0.3)
    one, other = (code_of(kind, weight, 4096 * np.arange(60)) for _ in range(2))
    assert (one.data == other.data).all()
    assert (one.blocks == other.blocks).all()
