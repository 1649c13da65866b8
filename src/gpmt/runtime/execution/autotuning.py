"""Which of a step's kernels is fastest here: the most promising are measured, and the choice is kept on disk."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from gpmt.runtime.codegen import disk_cache, jit, processor
from gpmt.runtime.codegen.kernel import load, sources
from gpmt.runtime.execution.weights import Weights
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.threads.arena import Arena, arena_size
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool

_MAX_MEASURED = 8  # candidates of a step
_MAX_CYCLES = 4.0  # times those of the best guess; candidates that should cost more are not measured
_SECONDS = 0.004  # of measuring each candidate in each round
_ROUNDS = 2


class Tuner:
    """Chooses kernels; the choices of earlier programs are read from the disk.

    Args:
        pool: the threads that programs run on.
        measure: whether to measure where the disk has no choice, or to take the cost model's first choice.
    """

    def __init__(self, pool: ThreadPool, *, measure: bool = True) -> None:
        self._pool = pool
        self._measure = measure
        key = f"{jit.fingerprint(processor.host())} {sources()} {pool.threads}"
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        self._path = disk_cache.cache_folder() / "tuning" / f"{name}.json"
        self._known = _read(self._path)
        self._new: dict[str, str] = {}

    def choose(self, candidates: Sequence[Candidate], planes: Mapping[str, Planes], macs: int) -> Candidate:
        """Return the fastest candidate.

        Args:
            candidates: the best guess first.
            planes: of the step's buffers, by kernel argument.
            macs: multiply-adds of the layer with weights that are not zero; layers with about as many share a
                measurement.
        """
        if len(candidates) == 1:
            return candidates[0]
        limit = _MAX_CYCLES * candidates[0].cycles
        tried = [candidate for candidate in candidates[:_MAX_MEASURED] if candidate.cycles <= limit]
        # The specs include the strides, though loops do not depend on their exact values.
        digest = hashlib.sha256(repr([c.spec for c in tried]).encode())
        digest.update(f"{_rounded_log(macs)}".encode())
        key = digest.hexdigest()[:32]
        if key not in self._known:
            if not self._measure:
                return tried[0]
            seconds = measure_candidates(tried, planes, self._pool)
            fastest = tried[seconds.index(min(seconds))]
            self._known[key] = self._new[key] = repr(fastest.spec)
        wanted = self._known[key]
        return next((c for c in tried if repr(c.spec) == wanted), tried[0])

    def save(self) -> None:
        """Write new choices to the disk; if that fails, the next compilation measures again."""
        if not self._new:
            return
        known = {**_read(self._path), **self._new}
        disk_cache.write(self._path, json.dumps(known).encode())
        self._new = {}


def measure_candidates(
    candidates: Sequence[Candidate], planes: Mapping[str, Planes], pool: ThreadPool, rounds: int = _ROUNDS
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


def _rounded_log(macs: int) -> int:
    """Return an integer that changes when multiply-adds grow by about a seventh."""
    return round(5 * float(np.log2(macs + 1)))


def _read(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError, RecursionError):
        known = json.loads(path.read_text())
        if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
            return known
    return {}
