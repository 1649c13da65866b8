"""Buffers share memory where they are never in use together, whatever their layouts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.execution.engines import chain, engine_of
from tests.runtime.execution.steps import step
from tests.runtime.networks import noise

from gpmt.runtime.execution.packing import Lifetime, pack, uses
from gpmt.runtime.lowering.steps import TorchStep

IMAGES = noise(2, 8, 9, 10)
LIFETIMES = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 9)).map(
    lambda drawn: Lifetime(min(drawn[:2]), max(drawn[:2]), 64 * drawn[2])
)


def most_in_use(lifetimes):
    return max((sum(x.size for x in lifetimes if x.first <= t <= x.last) for t in range(13)), default=0)


@given(st.lists(LIFETIMES, max_size=20))
def test_what_is_in_use_together_does_not_overlap(drawn):
    lifetimes = {str(i): lifetime for i, lifetime in enumerate(drawn)}
    packing = pack(lifetimes)
    assert packing.offsets.keys() == lifetimes.keys()
    for name, own in lifetimes.items():
        start = packing.offsets[name]
        assert start % 64 == 0
        assert 0 <= start <= start + own.size <= packing.size
        for other in lifetimes.keys() - {name}:
            second = packing.offsets[other]
            if start < second + lifetimes[other].size and second < start + own.size:
                assert own.last < lifetimes[other].first or lifetimes[other].last < own.first
    assert most_in_use(drawn) <= packing.size <= sum(own.size for own in drawn)


@pytest.mark.parametrize("sizes", [[64] * 9, [64, 128] * 4, [320, 64, 64, 64, 320]])
def test_a_chain_of_steps_needs_what_two_neighbours_need(sizes):
    lifetimes = {str(i): Lifetime(i, i + 1, size) for i, size in enumerate(sizes)}
    assert pack(lifetimes).size == most_in_use(lifetimes.values())


def test_the_smallest_gap_is_taken():
    lifetimes = {
        "a": Lifetime(0, 0, 640),
        "b": Lifetime(0, 9, 576),
        "c": Lifetime(0, 2, 320),
        "d": Lifetime(0, 9, 256),
        "e": Lifetime(3, 9, 192),
    }
    offsets = pack(lifetimes).offsets
    assert offsets["e"] == offsets["c"] == 640 + 576


def test_uses_are_those_of_native_steps():
    steps = [step("a", "b"), TorchStep("step", (), (), tuple), step("b", "c"), step("a")]
    assert uses(steps) == {"a": (0, 3), "b": (0, 2), "c": (2, 2)}


def test_long_networks_need_no_more_memory_for_activations():
    short, _ = engine_of(chain(4), IMAGES)
    long, _ = engine_of(chain(12), IMAGES)
    assert long.memory[0] == short.memory[0]
    assert long.memory[1] > 2 * short.memory[1]
