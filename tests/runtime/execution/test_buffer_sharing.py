"""Buffers share memory where they are never in use together, and only with those of equal planes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.execution.engines import chain, engine_of
from tests.runtime.networks import noise

from gpmt.runtime.execution.buffer_sharing import share_buffers
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.steps import BufferAddress, InputTensor, NativeStep, TorchStep

IMAGES = noise(2, 8, 9, 10)
PLANES = [Planes(1, 2, 3, 4, 5, gap) for gap in (0, 16)]


def step(*buffers):
    arguments = {f"argument {i}": BufferAddress(buffer) for i, buffer in enumerate(buffers)}
    return NativeStep("step", {"tensor": InputTensor("x"), **arguments}, lambda _: [])


def test_a_chain_of_steps_needs_two_blocks():
    names = [f"buffer {i}" for i in range(9)]
    steps = [step(one, other) for one, other in pairwise(names)]
    shared = share_buffers(steps, dict.fromkeys(names, PLANES[0]))
    assert shared.blocks == [PLANES[0]] * 2
    assert [shared.block_of[name] for name in names] == [0, 1, 0, 1, 0, 1, 0, 1, 0]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3), max_size=20))
def test_buffers_in_use_together_have_blocks_of_their_own(uses):
    planes = {f"buffer {i}": PLANES[i % 2] for i in range(10)}
    steps = [step(*(f"buffer {i}" for i in used)) for used in uses]
    steps.insert(len(steps) // 2, TorchStep("step", (), (), tuple))
    shared = share_buffers(steps, planes)
    spans = {}
    for index, one in enumerate(steps):
        for name in one.buffers.values() if isinstance(one, NativeStep) else ():
            first, _ = spans.get(name, (index, index))
            spans[name] = first, index
    assert shared.block_of.keys() == spans.keys()
    for name, (first, last) in spans.items():
        assert shared.blocks[shared.block_of[name]] == planes[name]
        for other, (other_first, other_last) in spans.items():
            if other != name and first <= other_last and other_first <= last:
                assert shared.block_of[name] != shared.block_of[other]


def test_long_networks_need_no_more_memory_for_activations():
    short, _ = engine_of(chain(4), IMAGES)
    long, _ = engine_of(chain(12), IMAGES)
    assert long.memory[0] == short.memory[0]
    assert long.memory[1] > 2 * short.memory[1]
