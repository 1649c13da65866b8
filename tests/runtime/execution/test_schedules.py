"""Schedules worth measuring: samples meet where buffers get smaller, and only as many as the caches can hold."""

from itertools import pairwise

from tests.runtime.execution.steps import step

from gpmt.runtime.execution.memory_plan import ONE_SAMPLE, Schedule
from gpmt.runtime.execution.schedules import better_schedules, first_schedules
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.steps import LoweredGraph


def lowered(*sides):
    """Return steps from images to images of these sides, 64 channels each."""
    names = [str(i) for i in range(len(sides))]
    planes = {name: Planes(1, 64, side, side, side, 0) for name, side in zip(names, sides, strict=True)}
    return LoweredGraph([step(*pair) for pair in pairwise(names)], planes)


def test_samples_meet_where_buffers_get_smaller():
    assert first_schedules(lowered(112, 112, 112, 56, 56, 56)) == [Schedule(4, 2), Schedule(4, 3)]


def test_a_later_larger_buffer_counts():
    assert first_schedules(lowered(112, 28, 28, 112, 112)) == []


def test_small_networks_can_go_together_from_the_start():
    assert first_schedules(lowered(14, 14, 14)) == [Schedule(4, 0)]


def test_large_buffers_never_go_together():
    assert first_schedules(lowered(448, 448, 224, 224)) == []


def test_more_and_fewer_samples_at_the_same_place():
    network = lowered(112, 112, 56, 56, 28)
    assert better_schedules(Schedule(4, 2), network) == [Schedule(2, 2), Schedule(8, 2)]
    assert better_schedules(ONE_SAMPLE, network) == []
