"""LAMP: one global threshold on scores that are normalised within each tensor (Lee et al. 2021, eq. 5).

The score of a weight is its square over the sum of the squares of all weights of its tensor that are at least
as large. Within a tensor it rises with |w|, so LAMP only decides how many weights each tensor keeps. The counts
are found by bisection on the global score threshold. A histogram of each tensor's squares bounds how many of its
weights score above a candidate; where the bounds leave the total open, one more pass over the weights settles it.

Scores are float64 sums in flat order on the CPU, so every device gives the same counts; float64 weights are
scored as float32. The histograms take 24 bytes for each of a tensor's distinct leading digits, about 70 KiB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpmt.core.keys import lamp_loops
from gpmt.core.keys.key_reader import map_groups, thread_count
from gpmt.core.keys.keys import KEY32, MagnitudeKeys
from gpmt.core.keys.lamp_loops import BINS, TOP_BINS
from gpmt.core.selection.allocation import CountAllocation, Problem

Floats = NDArray[np.float64]


class LAMP(CountAllocation):
    """Keep the weights with the largest LAMP scores of the network."""

    scores = False  # it has its own, of magnitudes

    def counts(self, problem: Problem) -> list[list[int]]:
        """Count, for each total, the weights of every tensor above the threshold on the scores."""
        return lamp_counts(problem.tensors, totals=problem.totals, floors=problem.floors)


def lamp_counts(
    tensors: Mapping[str, Tensor], *, totals: Sequence[int], floors: Sequence[int]
) -> list[list[int]]:
    """Return, for each of `totals`, how many weights every tensor keeps, at least its floor."""
    sources = [MagnitudeKeys(name, tensor.detach().cpu(), KEY32) for name, tensor in tensors.items()]
    threads = thread_count(sources)
    found: dict[int, _Scores] = {}

    def summarise(group: list[int]) -> None:
        for index in group:
            found[index] = _Scores.of(sources[index])

    map_groups(sources, summarise, threads)
    search = _Search(sources, [found[index] for index in range(len(sources))], list(floors), threads)
    return [search.counts(total) for total in totals]


@dataclass(frozen=True)
class _Scores:
    """Bounds of the scores in each non-empty bin of one tensor's magnitudes, from the largest bin down."""

    bins: NDArray[np.int64]
    kept: NDArray[np.int64]
    """Weights in the bins up to this one; one entry more than bins, the first is 0."""
    above: Floats
    """Sum of squares of the bins before this one."""
    low: Floats
    high: Floats

    @classmethod
    def of(cls, source: MagnitudeKeys) -> _Scores:
        counts, squares = np.zeros(TOP_BINS, np.int64), np.zeros(TOP_BINS)
        for keys in source.chunks():
            lamp_loops.sum_squares(keys, counts=counts, squares=squares)
        bins = np.flatnonzero(counts)[::-1]
        within = np.cumsum(squares[bins])
        above = within - squares[bins]
        smallest, largest = _squares(bins << 16), _squares(bins << 16 | (BINS - 1))
        kept = np.concatenate([[0], np.cumsum(counts[bins])])
        # Weights that are all zero have no score; 0 / 0 counts as 0.
        low = np.divide(smallest, within, out=np.zeros_like(within), where=within > 0)
        high = np.divide(largest, above + largest, out=np.zeros_like(within), where=largest > 0)
        # Sums round: widen the bounds so that they hold for any order of the sum.
        return cls(bins, kept, above, low * (1 - 1e-9), high * (1 + 1e-9))

    def open_bins(self, score: float) -> tuple[int, int]:
        """Return the range of bins that may hold both weights above and below `score`."""
        sure = int(np.searchsorted(-self.low, -score, side="right"))
        possible = int(np.searchsorted(-self.high, -score, side="right"))
        return sure, max(sure, possible)


class _Search:
    """Bisection on the score threshold, as the integer bits of a float64 in [0, 1]."""

    def __init__(
        self, sources: Sequence[MagnitudeKeys], scores: Sequence[_Scores], floors: list[int], threads: int
    ) -> None:
        self.sources, self.scores, self.floors, self.threads = sources, scores, floors, threads

    def counts(self, total: int) -> list[int]:
        keep_more, keep_less = 0, int(np.float64(1.0).view(np.int64)) + (1 << 20)
        more: list[int] | None = None
        less = list(self.floors)
        while keep_less - keep_more > 1:
            middle = (keep_more + keep_less) // 2
            score = float(np.int64(middle).view(np.float64))
            if sum(self._bounds(score, sure=True)) >= total:
                keep_more, more = middle, None
            elif sum(self._bounds(score, sure=False)) < total:
                keep_less, less = middle, []
            else:
                exact = self._exact(score)
                if sum(exact) == total:
                    return exact
                if sum(exact) > total:
                    keep_more, more = middle, exact
                else:
                    keep_less, less = middle, exact
        less = less or self._exact(float(np.int64(keep_less).view(np.float64)))
        more = more or self._exact(float(np.int64(keep_more).view(np.float64)))
        left = total - sum(less)
        for index, (few, many) in enumerate(zip(less, more, strict=True)):
            extra = min(left, many - few)
            less[index] += extra
            left -= extra
        return less

    def _bounds(self, score: float, *, sure: bool) -> list[int]:
        ends = [scores.open_bins(score)[0 if sure else 1] for scores in self.scores]
        return [
            max(floor, int(scores.kept[end]))
            for floor, scores, end in zip(self.floors, self.scores, ends, strict=True)
        ]

    def _exact(self, score: float) -> list[int]:
        """Count the weights of each tensor that score at least `score`, with one pass over the open bins."""
        counts = [0] * len(self.sources)

        def work(group: list[int]) -> None:
            for index in group:
                counts[index] = max(self.floors[index], self._count(index, score))

        map_groups(self.sources, work, self.threads)
        return counts

    def _count(self, index: int, score: float) -> int:
        scores = self.scores[index]
        start, end = scores.open_bins(score)
        count = int(scores.kept[start])
        if start == end:
            return count
        histograms = np.zeros((end - start, BINS), np.int64)
        tops = np.ascontiguousarray(scores.bins[start:end][::-1])
        for keys in self.sources[index].chunks():
            lamp_loops.count_low_halves(keys, tops=tops, histograms=histograms)
        for row, place in zip(histograms[::-1], range(start, end), strict=True):
            digits = np.flatnonzero(row)[::-1]
            squares = _squares(scores.bins[place] << 16 | digits)
            within = scores.above[place] + np.cumsum(row[digits] * squares)
            passing = squares >= score * within
            count += int(row[digits][passing].sum())
        return count


def _squares(keys: NDArray[np.int64]) -> Floats:
    return keys.astype(np.uint32).view(np.float32).astype(np.float64) ** 2
