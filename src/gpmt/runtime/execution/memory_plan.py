"""Where a network's buffers are in memory, for one sample or for several that are worked on together."""

from __future__ import annotations

from dataclasses import dataclass

from gpmt.arithmetic import round_up
from gpmt.runtime.execution.packing import Lifetime, pack, uses
from gpmt.runtime.layout.planes import FLOAT_BYTES, OVERREAD
from gpmt.runtime.lowering.steps import LoweredGraph
from gpmt.runtime.threads.arena import ALIGNMENT, Arena


@dataclass(frozen=True)
class Schedule:
    """The order in which several samples go through the steps.

    The first steps are done for one sample after the other, the rest step by step for all of them: so the code and
    weights of a step serve all samples while they are in the cache.

    Attributes:
        samples: that go through together.
        alone: the steps from the first one on that are done sample by sample.
    """

    samples: int = 1
    alone: int = 0


ONE_SAMPLE = Schedule()


class MemoryPlan:
    """Memory for the buffers of a network.

    Args:
        lowered: the network.
        schedule: the samples that are in memory together.
        share: whether buffers that are never in use together have the same memory.

    Attributes:
        arena: the memory.
        addresses: of each buffer's copies, one for each sample, by its name. Samples share the copy of a buffer that
            only steps which are done sample by sample use.
        cleared: by index of a step, the buffers whose gaps it must clear.

    Raises:
        RuntimeProgramError: there is not enough memory.
    """

    def __init__(self, lowered: LoweredGraph, schedule: Schedule = ONE_SAMPLE, *, share: bool = True) -> None:
        spans, copies = uses(lowered.steps), {}
        lifetimes: dict[tuple[str, int], Lifetime] = {}
        for name, (first, last) in spans.items():
            size = round_up(lowered.planes[name].own_bytes, ALIGNMENT)
            copies[name] = schedule.samples if last >= schedule.alone else 1
            # What later steps read must outlive the first steps of the other samples.
            begin = 0 if copies[name] > 1 and first < schedule.alone else first
            life = Lifetime(begin, last, size) if share else Lifetime(0, len(lowered.steps), size)
            lifetimes |= {(name, copy): life for copy in range(copies[name])}
        packing = pack(lifetimes)
        self.arena = Arena(packing.size + FLOAT_BYTES * OVERREAD)
        start = self.arena.allocate(self.arena.size)
        self.addresses = {
            name: [start + packing.offsets[name, i % copies[name]] for i in range(schedule.samples)]
            for name in spans
        }
        self.cleared: dict[int, list[str]] = {}
        for name in sorted(spans):
            if lowered.planes[name].gap:
                self.cleared.setdefault(spans[name][0], []).append(name)
