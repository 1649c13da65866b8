"""Exact selection: which weights stay, given a total to keep and a floor for every tensor.

The problem: keep the largest total magnitude such that exactly K weights stay, at least f_l of them in
tensor l. The greedy solution is optimal: keep the f_l largest of every tensor, then fill the rest of K from
one ranking of all the others. It is found here by reading the keys digit by digit, from the top (a radix
selection): each pass counts one digit of the keys that are still undecided into a histogram, which fixes that
digit of every threshold. A float32 network takes two such passes and one that counts the result per tensor.

The weights outside the floors are never listed: as a floor takes the largest weights of its tensor, those outside
it are the tensor's histogram up to the floor's threshold.

Memory: histograms only, a fixed number for each thread, independent of the size of the network. Ties: equal
magnitudes are kept in the order of the tensors, then of the flat index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from gpmt.core import key_loops
from gpmt.core.key_loops import BINS, TOP_BINS, Counts
from gpmt.core.keys import KeyFormat, KeySource
from gpmt.errors import WeightsError

MAX_THREADS = 8
HISTOGRAM_BYTES = 24 << 20
"""Memory for the histograms of all threads; it decides how many thresholds are found in the same passes."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Cut:
    """Where one tensor is cut: all keys above `key` stay, and the first `ties` in flat order equal to it."""

    key: int
    ties: int
    kept: int
    binds: bool
    """The floor decides: the global threshold alone would keep less."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The cuts of all tensors for one total; `key` is the global threshold λ, None where the floors use it all."""

    cuts: tuple[Cut, ...]
    key: int | None


def select(
    sources: Sequence[KeySource], key_format: KeyFormat, *, totals: Sequence[int], floors: Sequence[int]
) -> list[Selection]:
    """Select exactly `total` weights for every one of `totals`, at least `floors[l]` of them in tensor l.

    The floors are shared by all totals, and so are the passes over the weights. Needs
    floors[l] <= numel of tensor l and sum(floors) <= total <= sum of numel.
    Raises `WeightsError` if a weight is NaN or infinite.
    """
    threads = thread_count(sources)
    at_once = max(1, HISTOGRAM_BYTES // (threads * 2 * BINS * 8) - 1)
    selections = []
    for start in range(0, len(totals), at_once):
        search = _Search(sources, key_format, totals[start : start + at_once], floors, threads)
        selections += search.selections()
    return selections


def thread_count(sources: Sequence[KeySource]) -> int:
    """Return how many threads to read the keys with: a small network is not worth a second one.

    Keys that are not on a CPU are read by the caller's thread alone: any other would queue its reads on another
    stream of the device, where they do not wait for what the caller has queued.
    """
    if any(source.device.type != "cpu" for source in sources):
        return 1
    if sum(source.numel for source in sources) < 1 << 18:
        return 1
    return min(torch.get_num_threads(), MAX_THREADS, len(sources))


def map_groups(sources: Sequence[KeySource], work: Callable[[list[int]], _T], threads: int) -> list[_T]:
    """Split the tensors into `threads` groups of about equal size; return `work(indices)` of each group.

    A single group is worked on in the caller's thread.
    """
    groups: list[list[int]] = [[] for _ in range(threads)]
    loads = [0] * threads
    for index in sorted(range(len(sources)), key=lambda i: -sources[i].numel):
        lightest = loads.index(min(loads))
        groups[lightest].append(index)
        loads[lightest] += sources[index].numel
    if threads == 1:
        return [work(groups[0])]
    with ThreadPoolExecutor(threads, thread_name_prefix="gpmt") as pool:
        return list(pool.map(work, groups))


class _Thresholds:
    """Thresholds found digit by digit: the digits so far of each (`prefix`), and the rank left within them.

    A threshold of rank r is the r-th largest key; one of rank 0 is not looked for (not `active`).
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self.prefix = np.zeros(len(ranks), np.int64)
        self.rank = np.array(ranks, np.int64)
        self.active = self.rank > 0

    def refine(self, index: int | np.intp, histogram: Counts) -> int:
        """Fix the next digit of one threshold, and return it: the bin that holds its rank, from the top."""
        digit, above = key_loops.find_rank(histogram, self.rank[index])
        self.rank[index] -= above
        self.prefix[index] = self.prefix[index] * len(histogram) + digit
        return digit


class _Search:
    """One radix selection: the thresholds of the floors, one per tensor, and λ, one per total."""

    def __init__(
        self,
        sources: Sequence[KeySource],
        key_format: KeyFormat,
        totals: Sequence[int],
        floors: Sequence[int],
        threads: int,
    ) -> None:
        self.sources, self.key_format, self.floors, self.threads = sources, key_format, floors, threads
        self.own = _Thresholds(floors)
        self.shared = _Thresholds([total - sum(floors) for total in totals])
        self.bad: dict[int, int] = {}

    def selections(self) -> list[Selection]:
        top, *rest = self.key_format.shifts
        parts = map_groups(self.sources, partial(self._count_top, shift=top), self.threads)
        self._refuse_non_finite()
        queries = np.flatnonzero(self.shared.active)
        outside_floors = np.sum(parts, axis=0)
        for query in queries:
            self.shared.refine(query, outside_floors)
        for shift in rest:
            self._settle_floors(queries)
            parts = map_groups(
                self.sources, partial(self._count_next, shift=shift, queries=queries), self.threads
            )
            for query, histogram in zip(queries, np.sum(parts, axis=0), strict=True):
                self.shared.refine(query, histogram)
        above = self._count_above(queries)
        return [self._selection(query, above) for query in range(len(self.shared.rank))]

    def _settle_floors(self, queries: Counts) -> None:
        """Stop refining the floors that lie above every λ: their next digits cannot make them bind.

        A total that the floors use up has no λ, and needs all floors.
        """
        if len(queries) == len(self.shared.rank):
            self.own.active &= self.own.prefix <= self.shared.prefix[queries].max()

    def _count_top(self, group: list[int], shift: int) -> Counts:
        """Fix the top digit of the floors in the group; return the histogram [2^15] of the weights outside floors."""
        outside_floors, histogram = np.zeros((2, TOP_BINS), np.int64)
        for index in group:
            histogram[:] = 0
            for keys in self.sources[index].chunks():
                key_loops.count_top_digit(keys, bits=self.key_format.bits, histogram=histogram)
            if bad := int(histogram[self.key_format.infinity >> shift :].sum()):
                self.bad[index] = bad
            if self.own.active[index]:
                self._take_floor(histogram, index)
            outside_floors += histogram
        return outside_floors

    def _count_next(self, group: list[int], shift: int, queries: Counts) -> Counts:
        """Fix the next digit of the floors in the group; return histograms [totals, 2^16] outside the floors."""
        outside_floors = np.zeros((len(queries), BINS), np.int64)
        buffer = np.empty((len(queries) + 1, BINS), np.int64)
        for index in group:
            # Keys that start with more than the floor's prefix are in the floor, so they are not counted.
            wanted = self.shared.prefix[queries]
            if self.own.active[index]:
                floor = self.own.prefix[index]
                wanted = np.append(wanted[wanted <= floor], floor)
            prefixes = np.unique(wanted)
            if not len(prefixes):
                continue
            histograms = buffer[: len(prefixes)]
            histograms[:] = 0
            for keys in self.sources[index].chunks():
                key_loops.count_digit(
                    keys, bits=self.key_format.bits, shift=shift, prefixes=prefixes, histograms=histograms
                )
            if self.own.active[index]:
                self._take_floor(histograms[np.searchsorted(prefixes, floor)], index)
            for total, query in zip(outside_floors, queries, strict=True):
                row = np.searchsorted(prefixes, self.shared.prefix[query])
                if row < len(prefixes) and prefixes[row] == self.shared.prefix[query]:
                    total += histograms[row]
        return outside_floors

    def _take_floor(self, histogram: Counts, index: int) -> None:
        """Fix the next digit of one tensor's floor, and remove the floor's weights from its `histogram`."""
        digit = self.own.refine(index, histogram)
        histogram[digit] -= self.own.rank[index]  # the part of this bin that is in the floor
        histogram[digit + 1 :] = 0

    def _refuse_non_finite(self) -> None:
        for index in sorted(self.bad):
            source = self.sources[index]
            more = f" (and {len(self.bad) - 1} more tensors have some)" if len(self.bad) > 1 else ""
            raise WeightsError(
                f"{source.name} has {self.bad[index]:,} NaN or infinite of {source.numel:,} weights{more} and "
                "cannot be ranked; repair the checkpoint or exclude the tensor"
            )

    def _count_above(self, queries: Counts) -> Counts:
        """Count, per total and tensor, the keys above λ and those equal to it: [totals, tensors, 2].

        Where the floor's threshold is below λ the floor binds, and nothing is counted.
        """
        counts = np.zeros((len(self.shared.rank), len(self.sources), 2), np.int64)

        def work(group: list[int]) -> None:
            for index in group:
                undecided = [query for query in queries if not self._below(index, query)]
                for keys in self.sources[index].chunks() if undecided else ():
                    for query in undecided:
                        threshold = int(self.shared.prefix[query])
                        counts[query, index] += key_loops.count_above(
                            keys, bits=self.key_format.bits, threshold=threshold
                        )

        if len(queries):
            map_groups(self.sources, work, self.threads)
        return counts

    def _below(self, index: int, query: int) -> bool:
        return bool(self.own.active[index] and self.own.prefix[index] < self.shared.prefix[query])

    def _selection(self, query: int, counts: Counts) -> Selection:
        """Turn one total's thresholds into cuts; the ties at λ go to the tensors in their order."""
        if not self.shared.active[query]:
            return Selection(tuple(self._floor_cut(index) for index in range(len(self.sources))), None)
        key, left = int(self.shared.prefix[query]), int(self.shared.rank[query])
        cuts = []
        for index, floor in enumerate(self.floors):
            if self._below(index, query):
                cuts.append(self._floor_cut(index))
                continue
            above, equal = counts[query, index].tolist()
            in_floor = max(0, floor - above)  # ties at λ that the floor has taken already
            taken = min(left, equal - in_floor)
            left -= taken
            cuts.append(
                Cut(key, in_floor + taken, above + in_floor + taken, binds=in_floor > 0 and not taken)
            )
        return Selection(tuple(cuts), key)

    def _floor_cut(self, index: int) -> Cut:
        floor = self.floors[index]
        if not floor:
            return Cut(self.key_format.infinity, 0, 0, binds=False)
        return Cut(int(self.own.prefix[index]), int(self.own.rank[index]), floor, binds=True)
