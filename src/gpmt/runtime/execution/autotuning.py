"""Which of a step's kernels is fastest here: a short measurement of the most promising, remembered on disk."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from gpmt.runtime.codegen import disk_cache, jit, processor
from gpmt.runtime.codegen.kernel import load, sources
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.threads.arena import Arena, total
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool

_TRIED = 8  # candidates that are measured, at most
_HOPELESS = 4.0  # times the cycles of the best guess: what should cost more is not measured
_SECONDS = 0.004  # of measuring each, in each round
_ROUNDS = 2


class Tuner:
    """Chooses kernels; the choices of earlier programs are read from the disk.

    Args:
        team: the threads that programs run on.
        measure: whether to measure what has no choice on disk yet, or to trust the model.
    """

    def __init__(self, team: ThreadPool, *, measure: bool = True) -> None:
        self._team = team
        self._measure = measure
        key = f"{jit.fingerprint(processor.host())} {sources()} {team.threads}"
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        self._path = disk_cache.cache_folder() / "tuning" / f"{name}.json"
        self._known = _read(self._path)
        self._new: dict[str, str] = {}

    def choose(self, candidates: Sequence[Candidate], layouts: dict[str, Planes], work: int) -> Candidate:
        """Return the fastest candidate.

        Args:
            candidates: the best guess first.
            layouts: of the step's buffers, by argument.
            work: multiply-adds of the layer; layers with about as many share a measurement.
        """
        if len(candidates) == 1:
            return candidates[0]
        most = _HOPELESS * candidates[0].cycles
        tried = [candidate for candidate in candidates[:_TRIED] if candidate.cycles <= most]
        # Shapes of the loops do not depend on the strides' exact values, but the strides are in the specs.
        digest = hashlib.sha256(repr([c.spec for c in tried]).encode())
        digest.update(f"{_rounded(work)}".encode())
        key = digest.hexdigest()[:32]
        if key not in self._known:
            if not self._measure:
                return tried[0]
            self._known[key] = self._new[key] = repr(self._fastest(tried, layouts).spec)
        wanted = self._known[key]
        return next((c for c in tried if repr(c.spec) == wanted), tried[0])

    def save(self) -> None:
        """Write new choices to the disk; a disk that cannot be written to costs time at the next compilation only."""
        if not self._new:
            return
        known = {**_read(self._path), **self._new}
        disk_cache.keep(self._path, json.dumps(known).encode())
        self._new = {}

    def _fastest(self, tried: Sequence[Candidate], layouts: dict[str, Planes]) -> Candidate:
        ready = [_Trial(candidate, layouts) for candidate in tried]
        for trial in ready:
            self._team.run(trial.table)
        for _ in range(_ROUNDS):
            for trial in ready:
                trial.measure(self._team)
        return min(ready, key=lambda trial: trial.best).candidate


class _Trial:
    """A candidate with memory of its own to run on."""

    def __init__(self, candidate: Candidate, layouts: dict[str, Planes]) -> None:
        self.candidate = candidate
        arrays = candidate.arrays()
        sizes = {role: planes.buffer_bytes for role, planes in layouts.items()}
        arena = Arena(total([*sizes.values(), *(array.nbytes for array in arrays.values())]))
        places = {role: arena.take(size) + layouts[role].origin_bytes for role, size in sizes.items()}
        places |= {role: arena.put(array) for role, array in arrays.items()}
        self._arena = arena
        self._args = np.array([places.get(role, 0) for role in candidate.spec.ARGS], np.int64)
        self.table = StepTable([(load(candidate.spec), int(self._args.ctypes.data), candidate.spec.items)])
        self.best = float("inf")

    def measure(self, team: ThreadPool) -> None:
        end = time.perf_counter() + _SECONDS
        while (start := time.perf_counter()) < end:
            team.run(self.table)
            self.best = min(self.best, time.perf_counter() - start)


def _rounded(work: int) -> int:
    """Return a whole number that changes with every seventh of work more."""
    return round(5 * float(np.log2(work + 1)))


def _read(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError, RecursionError):
        known = json.loads(path.read_text())
        if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
            return known
    return {}
