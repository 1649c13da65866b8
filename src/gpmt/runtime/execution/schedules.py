"""Schedules that are worth measuring: from where on several samples go through a network together."""

from __future__ import annotations

from collections.abc import Sequence

from gpmt.runtime.execution.memory_plan import Schedule
from gpmt.runtime.lowering.steps import LoweredGraph, NativeStep

_SAMPLES = 4  # that are tried first
_OTHERS = (2, 8)
_MAX_PLACES = 5  # at which the samples come together
_DROP = 0.75  # buffers get smaller by this factor at such a place
_MAX_BYTES = 16 << 20  # of the buffers of a step, for all samples that go through it together


def first_schedules(lowered: LoweredGraph) -> list[Schedule]:
    """Return schedules of four samples that come together where buffers get smaller for good."""
    sizes = _step_bytes(lowered)
    left = [max(sizes[i:]) for i in range(len(sizes))]
    places = [i for i in range(1, len(left)) if left[i] < _DROP * left[i - 1]]
    if sizes and 2 * max(sizes) * _SAMPLES <= _MAX_BYTES:
        places.append(0)
    fitting = [i for i in places if left[i] * _SAMPLES <= _MAX_BYTES]
    return [Schedule(_SAMPLES, place) for place in sorted(fitting)[-_MAX_PLACES:]]


def better_schedules(best: Schedule, lowered: LoweredGraph) -> list[Schedule]:
    """Return schedules of more and of fewer samples than the best one so far, which come together at its place."""
    if best.samples == 1:
        return []
    most = max(_step_bytes(lowered)[best.alone :])
    return [Schedule(samples, best.alone) for samples in _OTHERS if most * samples <= _MAX_BYTES]


def _step_bytes(lowered: LoweredGraph) -> Sequence[int]:
    """Return the bytes of the buffers that each step works on."""
    return [
        sum(lowered.planes[name].own_bytes for name in set(step.buffers.values()))
        if isinstance(step, NativeStep)
        else 0
        for step in lowered.steps
    ]
