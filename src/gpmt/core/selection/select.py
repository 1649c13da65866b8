"""Exact selection: which weights stay, given a total to keep and a floor for every tensor.

The problem: keep the largest total magnitude such that exactly K weights stay, at least f_l of them in tensor l. The
greedy solution is optimal: keep the f_l largest of every tensor, then fill the rest of K from one ranking of all the
others. With c_l(t) the keys of tensor l from t on, a threshold t keeps G(t) = Σ max(f_l, c_l(t)) weights, and λ is
the largest t with G(t) ≥ K.

λ is found without sorting (`core/selection/threshold_search.py`), and the threshold of a floor that binds in the
same way in its tensor alone. Ties: equal keys are kept in the order of the tensors, then of the flat index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpmt.core.keys.key_reader import Counts, KeyReader, thread_count
from gpmt.core.keys.keys import KeyFormat, KeySource
from gpmt.core.selection.own_thresholds import own_thresholds
from gpmt.core.selection.threshold_search import Threshold, check_keys, find_thresholds


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
    Raises `WeightsError` if a magnitude is NaN or infinite, or a score is NaN.
    """
    reader = KeyReader(sources, key_format, thread_count(sources))
    least = np.array(floors, np.int64)
    searched = [total for total in totals if total > least.sum()]
    if searched:
        found = dict(zip(searched, find_thresholds(reader, searched, least), strict=True))
    else:
        found = {}
        check_keys(reader)
    cutters = [_Cutter(reader.sizes, least, total, found.get(total)) for total in totals]
    own_cuts = _own_cuts(reader, least, np.logical_or.reduce([cutter.own for cutter in cutters]))
    return [cutter.selection(own_cuts, key_format) for cutter in cutters]


def _own_cuts(reader: KeyReader, floors: Counts, wanted: Counts) -> dict[int, Cut]:
    """Cut some tensors at their floor."""
    cuts = {}
    searched = []
    for index in np.flatnonzero(wanted).tolist():
        floor = int(floors[index])
        if not floor:
            cuts[index] = Cut((1 << reader.key_format.bits) - 1, 0, 0, binds=False)
        else:
            searched.append(index)
    for index, (key, above) in own_thresholds(reader, searched, floors).items():
        cuts[index] = Cut(key, int(floors[index]) - above, int(floors[index]), binds=True)
    return cuts


class _Cutter:
    """The cuts of one total: the ties at λ go to the tensors in their order."""

    def __init__(self, sizes: Counts, floors: Counts, total: int, threshold: Threshold | None) -> None:
        self.threshold = threshold
        if threshold is None:
            self.own = np.ones(len(sizes), np.bool_)
            return
        above, equal = threshold.above, threshold.equal
        in_floor = np.maximum(0, floors - above)  # ties at λ that the floor has taken already
        self.own = in_floor > equal
        spare = np.where(self.own, 0, equal - in_floor)
        left = total - int(np.maximum(floors, above).sum())
        taken = np.clip(left - (np.cumsum(spare) - spare), 0, spare)
        self.ties = in_floor + taken
        self.kept = above + self.ties
        self.binds = (in_floor > 0) & (taken == 0)

    def selection(self, own_cuts: dict[int, Cut], key_format: KeyFormat) -> Selection:
        """Return the cuts, those of `own_cuts` where a tensor's floor lies below λ."""
        if self.threshold is None:
            return Selection(tuple(own_cuts[index] for index in range(len(self.own))), None)
        key = self.threshold.key
        rows = zip(
            self.own.tolist(), self.ties.tolist(), self.kept.tolist(), self.binds.tolist(), strict=True
        )
        return Selection(
            tuple(
                own_cuts[index] if own else Cut(key, ties, kept, binds)
                for index, (own, ties, kept, binds) in enumerate(rows)
            ),
            key,
        )
