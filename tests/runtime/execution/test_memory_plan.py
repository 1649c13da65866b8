"""Buffers of several samples: what is in use together does not overlap, in any order of steps and samples."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.execution.steps import step

from gpmt.runtime.execution.memory_plan import ONE_SAMPLE, MemoryPlan, Schedule
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.steps import LoweredGraph

PLANES = [Planes(1, 2, 3, 4, 5, 0), Planes(1, 1, 8, 9, 10, 11), Planes(1, 3, 5, 5, 6, 7)]
USES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True), min_size=1, max_size=10)


def lowered(uses):
    return LoweredGraph(
        [step(*map(str, used)) for used in uses], {str(i): PLANES[i % len(PLANES)] for i in range(10)}
    )


def runs(schedule, steps):
    """Return (sample, step) in the order of their execution."""
    samples = range(schedule.samples)
    first = [(s, i) for s in samples for i in range(schedule.alone)]
    return first + [(s, i) for i in range(schedule.alone, steps) for s in samples]


@given(USES, st.integers(1, 4), st.integers(0, 10))
def test_what_is_in_use_together_does_not_overlap(uses, samples, alone):
    graph, schedule = lowered(uses), Schedule(samples, min(alone, len(uses)))
    plan = MemoryPlan(graph, schedule)
    spans = {}  # of the times at which a sample needs its copy of a buffer
    for time, (sample, index) in enumerate(runs(schedule, len(uses))):
        for name in map(str, uses[index]):
            first, _ = spans.get((name, sample), (time, time))
            spans[name, sample] = first, time
    for one, other in combinations(spans, 2):
        if spans[one][0] <= spans[other][1] and spans[other][0] <= spans[one][1]:
            start, second = (plan.addresses[name][sample] for name, sample in (one, other))
            size, length = (graph.planes[name].own_bytes for name, _ in (one, other))
            assert start + size <= second or second + length <= start


@given(USES)
def test_gaps_are_cleared_by_the_first_step(uses):
    graph = lowered(uses)
    plan = MemoryPlan(graph)
    for index, used in enumerate(uses):
        new = {str(i) for i in used} - {str(i) for earlier in uses[:index] for i in earlier}
        assert set(plan.cleared.get(index, ())) == {name for name in new if graph.planes[name].gap}


def test_only_what_later_steps_need_is_there_for_each_sample():
    graph = lowered([[0, 1], [1, 2], [2, 4], [4, 5]])
    one, three = MemoryPlan(graph, ONE_SAMPLE), MemoryPlan(graph, Schedule(3, 3))
    assert {name: len(set(found)) for name, found in three.addresses.items()} == {
        "0": 1, "1": 1, "2": 1, "4": 3, "5": 3,
    }  # fmt: skip
    assert three.arena.size < 3 * one.arena.size
    apart = MemoryPlan(graph, share=False)
    assert apart.arena.size > one.arena.size
