"""The kernels of one step measured alone, again and again: warm, as they are not inside a network."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from gpmt.runtime.codegen.kernel import load
from gpmt.runtime.execution.weights import Weights
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.threads.arena import Arena, arena_size
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool

_SECONDS = 0.004  # of measuring each candidate in each round


def measure_candidates(
    candidates: Sequence[Candidate], planes: Mapping[str, Planes], pool: ThreadPool, rounds: int
) -> list[float]:
    """Return the seconds of the fastest run of each candidate, measured in alternation.

    Args:
        candidates: of one step.
        planes: of the step's buffers, by kernel argument.
        pool: the threads.
        rounds: how often to measure each candidate, for some milliseconds.
    """
    trials = [_Trial(candidate, planes) for candidate in candidates]
    for trial in trials:
        pool.run(trial.table)
    for _ in range(rounds):
        for trial in trials:
            trial.measure(pool)
    return [trial.seconds for trial in trials]


class _Trial:
    """A candidate with its own memory to run on."""

    def __init__(self, candidate: Candidate, planes: Mapping[str, Planes]) -> None:
        sizes = {name: p.buffer_bytes for name, p in planes.items()}
        self._arena = Arena(arena_size(sizes.values()))
        self._weights = Weights([candidate])
        addresses = {
            name: self._arena.allocate(size) + planes[name].origin_bytes for name, size in sizes.items()
        }
        addresses |= self._weights.addresses[0]
        self._args = np.array([address or 0 for address in candidate.spec.in_order(addresses)], np.int64)
        self.table = StepTable([(load(candidate.spec), int(self._args.ctypes.data), candidate.spec.items)])
        self.seconds = float("inf")

    def measure(self, pool: ThreadPool) -> None:
        end = time.perf_counter() + _SECONDS
        while (start := time.perf_counter()) < end:
            pool.run(self.table)
            self.seconds = min(self.seconds, time.perf_counter() - start)
