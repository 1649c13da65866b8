"""The search for global thresholds: a sample brackets each, one pass counts exactly and collects what is in between.

For each total, λ is known to lie in an interval [lower, upper) of keys, and for each tensor its keys from either end
on are counted. Every round

1. estimates from a sample of the interval where λ is, and puts a bracket of some standard deviations around it;
2. counts, in one pass over all keys, those from the ends of the brackets on, and collects the keys inside brackets,
   or only every k-th where they would be too many;
3. narrows the intervals: exactly, whatever the sample was like. A bracket that missed λ is followed by a wider one
   on the side where λ is.

When all keys of an interval have been collected, λ is the key of one rank among them. Keys equal to the ends of a
bracket are counted and not collected if there are many, so ties need no memory. Most networks take one pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpmt.core.keys.key_reader import Counts, KeyReader, Keys, Pool
from gpmt.errors import WeightsError

SAMPLE = 1 << 18
"""Most keys of a sample, and about as many are collected where not all can be."""
SAMPLED = 256
"""Of large networks, one key of this many is sampled, until the sample is full."""
SMALL = 1 << 12
"""Keys that are all collected, without a sample."""
POOL_BYTES = 8 << 20
"""Memory for keys that are collected."""
MARGIN = 4.0
"""Half the width of a bracket in standard deviations of the rank."""
LIMITS = 1 << 20
"""Most counts of a pass, one for each tensor and limit."""


@dataclass(frozen=True, eq=False)
class Threshold:
    """A global threshold λ, and how many keys of each tensor are above it and equal to it."""

    key: int
    above: Counts
    equal: Counts


def find_thresholds(reader: KeyReader, totals: Sequence[int], floors: Counts) -> list[Threshold]:
    """Find the threshold of each total, more than the sum of `floors`; all share the passes over the keys."""
    at_once = max(1, LIMITS // (6 * len(reader.sources)))
    found = []
    for start in range(0, len(totals), at_once):
        found += _Search(reader, totals[start : start + at_once], floors).thresholds()
    return found


def check_keys(reader: KeyReader) -> None:
    """Raise `WeightsError`, naming the first, for sources with keys that cannot be ranked."""
    limits = _valid_limits(reader)
    if not limits:
        return
    counts, _ = reader.scan(limits, [False] * len(limits))
    _refuse_invalid(reader, counts, limits)


def _valid_limits(reader: KeyReader) -> list[int]:
    """Return the limits whose counts tell of keys that cannot be ranked."""
    lower, upper = reader.key_format.lower, reader.key_format.upper
    return [
        *([lower] if reader.key_format.signed else []),
        *([upper] if upper >> reader.key_format.bits == 0 else []),
    ]


def _refuse_invalid(reader: KeyReader, counts: Counts, limits: list[int]) -> None:
    bad = np.zeros(len(reader.sources), np.int64)
    if reader.key_format.lower in limits:
        bad += reader.sizes - counts[:, limits.index(reader.key_format.lower)]
    if reader.key_format.upper in limits:
        bad += counts[:, limits.index(reader.key_format.upper)]
    if not bad.any():
        return
    first, tensors = int(np.flatnonzero(bad)[0]), int(np.count_nonzero(bad))
    source = reader.sources[first]
    more = f" (and {tensors - 1} more tensors have some)" if tensors > 1 else ""
    if reader.key_format.signed:
        raise WeightsError(
            f"the scores of {source.name} have {int(bad[first]):,} NaN of {source.numel:,}{more} and cannot be "
            "ranked; give -inf for what is always pruned, inf for what is never pruned, or exclude the tensor"
        )
    raise WeightsError(
        f"{source.name} has {int(bad[first]):,} NaN or infinite of {source.numel:,} weights{more} and "
        "cannot be ranked; repair the checkpoint or exclude the tensor"
    )


class _Query:
    """One total, and what is known of its threshold."""

    def __init__(self, total: int, floors: Counts, reader: KeyReader) -> None:
        self.total, self.floors = total, floors
        self.lower, self.upper = reader.key_format.lower, reader.key_format.upper
        self.from_lower, self.from_upper = reader.sizes, np.zeros_like(reader.sizes)
        self.sample: Pool | None = None
        """Keys that hold a sample of the interval."""
        self.misses = self.rounds = 0
        self.whole = False
        """The next bracket is the whole interval."""

    def kept(self, counts: Counts) -> int:
        """Return G for the keys of each tensor from a threshold on."""
        return int(np.maximum(self.floors, counts).sum())

    @property
    def inside(self) -> int:
        """The number of keys in the interval."""
        return int((self.from_lower - self.from_upper).sum())

    def bracket(self) -> tuple[list[int], list[tuple[int, int]], float]:
        """Return limits to count from, the intervals to collect, and about how many keys they hold."""
        if self.whole or self.inside <= SMALL or self.sample is None:
            return [self.lower, self.upper], [(self.lower, self.upper)], self.inside
        rest = self._sample_outside_floors()
        if not len(rest):
            return [self.lower, self.upper], [(self.lower, self.upper)], self.inside
        high, low, tied = self._ends(rest)
        limits = [low, high]
        if low in tied:
            limits.append(low + 1)
        if high in tied:
            limits.append(high + 1)
        start = low + 1 if low in tied else low
        sampled = self.sample.count(start, high)
        sampled_inside = max(1, int(self.sample.count(self.lower, self.upper).sum()))
        expected = int(sampled.sum()) * self.inside / sampled_inside
        return limits, [(start, high)] if start < high else [], expected

    def _sample_outside_floors(self) -> Keys:
        """Return the sample of the interval without what the floors take of it."""
        assert self.sample is not None
        sampled = self.sample.count(self.lower, self.upper)
        needed = np.clip(self.floors - self.from_upper, 0, None)
        shares = needed / np.maximum(1, self.from_lower - self.from_upper)
        take = np.rint(np.minimum(1, shares) * sampled).astype(np.int64)
        return self.sample.outside(self.lower, self.upper, take)

    def _ends(self, rest: Keys) -> tuple[int, int, set[int]]:
        """Return the ends of the bracket, the upper one first, and those that several keys of the sample equal."""
        count = len(rest)
        # Ranks in the sample are to ranks outside the floors as their numbers are, which are known at both ends.
        kept = self.kept(self.from_upper)
        rank = (self.total - kept) * count / (self.kept(self.from_lower) - kept)
        spread = (MARGIN * math.sqrt(max(0.0, rank * (count - rank) / count)) + 2) * 2**self.misses
        first, last = math.floor(rank - spread), math.ceil(rank + spread)
        places = [count - 1 - place for place in (first, last) if 0 <= place < count]
        if places:
            rest.partition(places)
        high = int(rest[count - 1 - first]) if first >= 0 else self.upper
        low = int(rest[count - 1 - last]) if last < count else self.lower
        return high, low, {key for key in (high, low) if low == high or (rest == key).sum() > 1}

    def narrow(
        self, limits: Sequence[int], counts: Counts, pool: Pool | None, collected: set[tuple[int, int]]
    ) -> None:
        """Narrow the interval to the two limits that λ lies between, of which some have been `collected`."""
        self.rounds += 1
        lower, upper = self.lower, self.upper
        for place, limit in enumerate(limits):
            if lower <= limit <= upper:
                if self.kept(counts[:, place]) >= self.total:
                    self.lower, self.from_lower = limit, counts[:, place]
                else:
                    self.upper, self.from_upper = limit, counts[:, place]
                    break
        covered = (self.lower, self.upper) in collected
        self.misses = 0 if covered else self.misses + 1
        self.whole = covered and pool is None
        if covered and pool is not None:
            self.sample = pool

    def threshold(self) -> Threshold | None:
        """Return λ if the interval is one key, or all of its keys have been collected."""
        if self.upper - self.lower == 1:
            return Threshold(self.lower, self.from_upper, self.from_lower - self.from_upper)
        if self.sample is None or self.sample.every > 1:
            return None
        rest = self.sample.outside(self.lower, self.upper, self.floors - self.from_upper)
        place = len(rest) - (self.total - self.kept(self.from_upper))
        rest.partition(place)
        key = int(rest[place])
        above = self.from_upper + self.sample.count(key + 1, self.upper)
        return Threshold(key, above, self.sample.count(key, key + 1))


class _Search:
    def __init__(self, reader: KeyReader, totals: Sequence[int], floors: Counts) -> None:
        self.reader = reader
        self.queries = [_Query(total, floors, reader) for total in totals]
        self.room = POOL_BYTES // np.dtype(reader.key_format.word).itemsize
        self.careful = False

    def thresholds(self) -> list[Threshold]:
        """Search in rounds until all thresholds are found."""
        found: dict[_Query, Threshold] = {}
        self._take_sample()
        while waiting := [query for query in self.queries if query not in found]:
            self._round(waiting)
            for query in waiting:
                if threshold := query.threshold():
                    found[query] = threshold
                    query.sample = None
        return [found[query] for query in self.queries]

    def _take_sample(self) -> None:
        numel = int(self.reader.sizes.sum())
        every = max(numel // SAMPLE, min(SAMPLED, numel // SMALL), 1)
        if every > 1:
            sample = self.reader.sample(every)
            for query in self.queries:
                query.sample = sample

    def _round(self, waiting: list[_Query]) -> None:
        wanted, expected = set(), 0.0
        intervals = []
        for query in waiting:
            ends, inside, number = query.bracket()
            wanted |= {*ends}
            if query.misses or query.rounds > 2:  # ends the search, whatever the samples are like
                wanted.add((query.lower + query.upper) // 2)
            intervals += inside
            expected += number
        checks = _valid_limits(self.reader)
        limits = sorted({*(limit for limit in wanted if self._is_key(limit)), *checks})
        collected = [any(low <= limit < high for low, high in intervals) for limit in limits]
        every = 1
        if expected > self.room / 2 / (len(self.reader.parts) if self.careful else 1):
            every = math.ceil(expected / min(SAMPLE, self.room / (2 * len(self.reader.parts))))
        counts, pool = self.reader.scan(limits, collected, every, self.room if any(collected) else 0)
        self.careful |= pool is None  # what one thread found did not fit into its share of the room
        _refuse_invalid(self.reader, counts, limits)
        pairs = zip(limits, [*limits[1:], self.reader.key_format.upper], strict=True)
        in_pool = {pair for pair, wanted in zip(pairs, collected, strict=True) if wanted}
        for query in waiting:
            query.narrow(limits, counts, pool, in_pool)

    def _is_key(self, limit: int) -> bool:
        return -(1 << self.reader.key_format.bits) <= limit < 1 << self.reader.key_format.bits
