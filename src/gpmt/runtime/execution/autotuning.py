"""Which kernels are fastest here: measured in sequence, as a network runs them; the choices are kept on disk.

A step measured alone finds its weights, its code and its pixels in the cache, which it does not inside a network. So
whole networks are compared: one with the best kernels so far, and one in which every step has another candidate. Both
run in turn, with the time of every step. Where the other candidate was faster it takes the place of the best one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpmt.runtime.codegen import disk_cache, jit, processor
from gpmt.runtime.codegen.kernel import sources
from gpmt.runtime.execution.memory_plan import ONE_SAMPLE, Schedule
from gpmt.runtime.execution.schedules import better_schedules, first_schedules
from gpmt.runtime.execution.trial_network import TrialNetwork
from gpmt.runtime.ir.values import Value
from gpmt.runtime.lowering.candidates import Candidate
from gpmt.runtime.lowering.steps import LoweredGraph, NativeStep
from gpmt.runtime.threads.thread_pool import ThreadPool

_MAX_MEASURED = 9  # candidates of a step
_MAX_OF_A_KIND = 4  # of one kernel
_MAX_CYCLES = 2.5  # times those of the best guess; candidates that should cost more are not measured
_SECONDS = 0.25  # of measuring two networks in turn
_FEWEST, _MOST = 5, 40  # runs of each
_GAIN = 0.98  # of its time that a candidate or schedule must need at most to be chosen

Trial = Callable[[], NDArray[np.float64]]
"""Runs a network and returns the cycles of its steps."""


class Tuner:
    """Chooses the kernels of a network; the choices for earlier networks like it are read from the disk.

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

    def choose(self, lowered: LoweredGraph, values: Mapping[str, Value]) -> list[Candidate]:
        """Return the kernel of every native step, for all threads on one sample.

        Args:
            lowered: the network, for this number of threads.
            values: the graph's values by name.
        """
        options = _options(lowered)
        key = _key("one sample", lowered, options)
        known = _read(self._path).get(key, "").split()
        if len(known) == len(options):
            return _found(options, known)
        if not self._measure or all(len(own) == 1 for own in options):
            return [own[0] for own in options]
        chosen = self._fastest_of_each(lowered, values, options, None)
        self._save(key, [_digest(choice) for choice in chosen])
        return chosen

    def choose_for_batches(
        self, lowered: LoweredGraph, values: Mapping[str, Value]
    ) -> tuple[list[Candidate], Schedule]:
        """Return the kernel of every step and the schedule, for each thread on samples of its own.

        Args:
            lowered: the network, for one thread; all of its steps are native.
            values: the graph's values by name.
        """
        options = _options(lowered)
        key = _key("samples", lowered, options)
        known = _read(self._path).get(key, "").split()
        if len(known) == len(options) + 2 and all(number.isdecimal() for number in known[:2]):
            samples, alone = int(known[0]), int(known[1])
            if samples >= 1 and alone <= len(lowered.steps):
                return _found(options, known[2:]), Schedule(samples, alone)
        if not self._measure:
            return [own[0] for own in options], ONE_SAMPLE
        chosen = self._fastest_of_each(lowered, values, options, ONE_SAMPLE)
        schedule = self._schedule(lowered, values, chosen)
        if schedule.samples > 1:
            together = [
                [choice, *(c for c in own if c is not choice and type(c.spec) is type(choice.spec))]
                if index >= schedule.alone
                else [choice]
                for index, (choice, own) in enumerate(zip(chosen, options, strict=True))
            ]
            chosen = self._fastest_of_each(lowered, values, together, schedule)
        self._save(key, [str(schedule.samples), str(schedule.alone), *map(_digest, chosen)])
        return chosen, schedule

    def _fastest_of_each(
        self, lowered: LoweredGraph, values: Mapping[str, Value], options: Sequence[Sequence[Candidate]],
        schedule: Schedule | None,
    ) -> list[Candidate]:  # fmt: skip
        """Return the fastest candidate of every step, by comparing the best one so far with each other in turn."""
        best = [_remembered(own[0]) for own in options]
        network: TrialNetwork | None = None
        for turn in range(1, max((len(own) for own in options), default=1)):
            others = [
                _remembered(own[turn]) if turn < len(own) else mine
                for own, mine in zip(options, best, strict=True)
            ]
            network = network or TrialNetwork(lowered, best, values, self._pool, schedule)
            other = TrialNetwork(lowered, others, values, self._pool, schedule)
            mine, theirs = compare(network.run, other.run)
            faster = [i for i, own in enumerate(options) if turn < len(own) and theirs[i] < _GAIN * mine[i]]
            if faster:
                best = [others[i] if i in faster else choice for i, choice in enumerate(best)]
                network = None
        return best

    def _schedule(
        self, lowered: LoweredGraph, values: Mapping[str, Value], chosen: Sequence[Candidate]
    ) -> Schedule:
        """Return the fastest of some schedules."""
        alone = TrialNetwork(lowered, chosen, values, self._pool, ONE_SAMPLE)
        best, gain = ONE_SAMPLE, _GAIN

        def try_all(schedules: Sequence[Schedule]) -> None:
            nonlocal best, gain
            for schedule in schedules:
                other = TrialNetwork(lowered, chosen, values, self._pool, schedule)
                mine, theirs = compare(alone.run, other.run, total=True)
                if theirs[0] < gain * mine[0]:
                    best, gain = schedule, theirs[0] / mine[0]

        try_all(first_schedules(lowered))
        try_all(better_schedules(best, lowered))
        return best

    def _save(self, key: str, words: Sequence[str]) -> None:
        """Write a choice to the disk; if that fails, the next compilation measures again."""
        known = {**_read(self._path), key: " ".join(words)}
        disk_cache.write(self._path, json.dumps(known).encode())


def compare(
    one: Trial, other: Trial, *, total: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower quartiles of the cycles that two networks need for each step, run in turn.

    Args:
        one, other: the networks.
        total: whether to return the cycles of all steps together, as one element.
    """
    times: tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]] = ([], [])
    start = time.perf_counter()
    for trial in (one, other):
        trial()
    seconds = 2 * (time.perf_counter() - start)
    turns = max(_FEWEST, min(_MOST, int(_SECONDS / seconds)))
    for _ in range(turns):
        for trial, found in zip((one, other), times, strict=True):
            trial()  # brings its weights and code into the caches, as an earlier call of the program would
            result = trial()
            found.append(result.sum(keepdims=True) if total else result)
    first, second = (np.quantile(np.array(found), 0.25, axis=0) for found in times)
    return first, second


def _options(lowered: LoweredGraph) -> list[list[Candidate]]:
    """Return the candidates of every native step that are worth measuring."""
    return [
        promising(step.candidates(lowered.planes)) for step in lowered.steps if isinstance(step, NativeStep)
    ]


def promising(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the most promising candidates, the best guess first: of each kernel some."""
    limit = _MAX_CYCLES * candidates[0].cycles
    counts: dict[type, int] = {}
    found = []
    for candidate in candidates:
        kind = type(candidate.spec)
        counts[kind] = counts.get(kind, 0) + 1
        if candidate.cycles <= limit and counts[kind] <= _MAX_OF_A_KIND:
            found.append(candidate)
    return found[:_MAX_MEASURED]


def _key(kind: str, lowered: LoweredGraph, options: Sequence[Sequence[Candidate]]) -> str:
    """Return what identifies a network: the candidates of its steps, and about how many weights each has."""
    digest = hashlib.sha256(kind.encode())
    steps = [step for step in lowered.steps if isinstance(step, NativeStep)]
    for step, own in zip(steps, options, strict=True):
        digest.update(f"{[c.spec for c in own]} {_rounded_log(step.macs.kept)}\n".encode())
    return digest.hexdigest()[:32]


def _found(options: Sequence[Sequence[Candidate]], digests: Sequence[str]) -> list[Candidate]:
    """Return the candidates with these digests; the first one for a digest that none has."""
    return [
        next((c for c in own if _digest(c) == digest), own[0])
        for own, digest in zip(options, digests, strict=True)
    ]


def _digest(candidate: Candidate) -> str:
    return hashlib.sha256(repr(candidate.spec).encode()).hexdigest()[:12]


def _remembered(candidate: Candidate) -> Candidate:
    """Return a candidate that makes its arrays and code once."""
    code = candidate.code and cache(candidate.code)
    return replace(candidate, arrays=cache(candidate.arrays), code=code)


def _rounded_log(macs: int) -> int:
    """Return an integer that changes when multiply-adds grow by about a seventh."""
    return round(5 * float(np.log2(macs + 1)))


def _read(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError, RecursionError):
        known = json.loads(path.read_text())
        if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
            return known
    return {}
