"""Timing by turns: rounds in which each function has one turn, and what other processes computed meanwhile.

Nothing but the standard library, as the worker of an old Python needs it too.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 0.02
"""Of a turn."""

PAUSE = 0.005
"""Seconds before a turn: threads spin for a while after a call, and would take the processor from the next engine."""

LEAST_ROUNDS = 3

LONG = 0.2
"""Seconds; in a longer call, waking threads and filling caches do not count."""

QUIET = 0.1
"""Cores that other processes may keep busy: threads that wait for one that lost its core wait for all of them."""


@dataclass
class Rounds:
    """What was measured.

    Attributes:
        times: by function the mean seconds of a call, one number a round.
        left_out: rounds that are not among them, since other processes computed.
        others: cores that other processes kept busy in these rounds, on average; None where that is not known.
    """

    times: list[list[float]]
    left_out: int
    others: float | None


def turn(call: Callable[[], object], seconds: float) -> float:
    """Return the mean seconds of a call, over as many as take `seconds` together, at least one, when all is warm."""
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    if first >= LONG:
        return first
    count, start = 0, time.perf_counter()
    while True:
        call()
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / count


def measure(turns: Sequence[Callable[[float], float]], seconds: float, workers: Iterable[int] = ()) -> Rounds:
    """Let functions take turns for so many seconds, after a round that does not count.

    A round in which other processes computed does not count either, and as long as less than three do, up to three
    times the seconds are taken; where there still are less then, all rounds count.

    Args:
        turns: each returns the mean seconds of calls that together take as many seconds as it is told.
        seconds: to measure for, where that is enough for three rounds.
        workers: processes that belong to the functions.
    """
    own = [os.getpid(), *workers]
    rounds: list[tuple[list[float], float | None]] = []
    gc.collect()
    gc.disable()
    try:
        take_round(turns, 0, own)
        start = time.perf_counter()
        while True:
            rounds.append(take_round(turns, len(rounds) + 1, own))
            quiet = [taken for taken in rounds if (taken[1] or 0) <= QUIET]
            elapsed = time.perf_counter() - start
            if elapsed >= seconds and (
                len(quiet) >= LEAST_ROUNDS or (len(rounds) >= LEAST_ROUNDS and elapsed >= 3 * seconds)
            ):
                break
    finally:
        gc.enable()
    counted = quiet if len(quiet) >= LEAST_ROUNDS else rounds
    shares = [others for _, others in counted if others is not None]
    return Rounds(
        times=[list(times) for times in zip(*(times for times, _ in counted))],  # noqa: B905 - for old Pythons
        left_out=len(rounds) - len(counted),
        others=sum(shares) / len(shares) if shares else None,
    )


def take_round(
    turns: Sequence[Callable[[float], float]], number: int, own: Sequence[int]
) -> tuple[list[float], float | None]:
    """Return the times of one round, and how many cores other processes than `own` kept busy."""
    shift = number % len(turns)
    order = [*range(shift, len(turns)), *range(shift)]
    if number % 2:
        order.reverse()  # neighbours change, too
    times = [0.0] * len(turns)
    before, start = others_seconds(own), time.perf_counter()
    for index in order:
        time.sleep(PAUSE)
        times[index] = turns[index](SECONDS)
    elapsed, after = time.perf_counter() - start, others_seconds(own)
    if before is None or after is None:
        return times, None
    return times, max(after - before, 0.0) / elapsed


def others_seconds(own: Sequence[int]) -> float | None:
    """Return the processor time of all processes but `own` since the machine started, where Linux tells."""
    try:
        fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
        ticks = sum(fields) - fields[3] - fields[4]  # neither idle nor waiting for a disk
        for process in own:
            stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks -= int(stat[11]) + int(stat[12])
    except (OSError, ValueError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")
