"""How many weights have which magnitude: exact counts in bins of log10 |w|, by the passes that selections make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.core.keys.key_reader import KeyReader, thread_count
from gpmt.core.keys.keys import KeyFormat, MagnitudeKeys, key_format_of
from gpmt.report.content.subject import Histogram

MOST_BINS = 60
MOST_BLOCKS = 100
"""Blocks that have a histogram of their own, the largest ones."""
_TAIL = 0.001
"""The share of weights, the smallest, that may lie below the first edge, in the first bin."""
_DECADES = (*range(-12, 7), 10, 20, 38)
"""Where edges may begin and end."""
_A_DECADE = (60, 30, 20, 15, 12, 10, 8, 6, 5, 4, 3, 2, 1)

Counts = NDArray[np.int64]


def histograms(
    before: Mapping[str, Tensor] | None,
    after: Mapping[str, Tensor] | None,
    *,
    threshold: float | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> list[Histogram]:
    """Return the histogram of all blocks together, then those of the largest ones in their order.

    All have the same edges, at most 61. A thousandth of the weights, the smallest, may lie below the first edge; they
    count in the first bin. Weights that are not finite are in no bin.

    Args:
        before: block -> its weights before pruning; None where they are not known.
        after: block -> its weights after pruning; None likewise. Blocks have the same names and shapes in both.
        threshold: that of all weights.
        thresholds: block -> that of its group.

    >>> import torch
    >>> [found, _] = histograms(None, {"fc": torch.tensor([[0.0, 0.01, 0.02, 0.5]])})
    >>> found.edges[0], found.edges[-1], sum(found.after), found.zeros_after
    (-2.0, -0.3, 3, 1)
    """
    sides = [side for side in (before, after) if side]
    if not sides:
        return []
    numel = {name: tensor.numel() for name, tensor in sides[0].items()}
    key_format = key_format_of([tensor for side in sides for tensor in side.values()])
    edges = _edges(sides, key_format)
    counted = [None if side is None else _count(side, edges, key_format) for side in (before, after)]
    edges, counted = _trimmed(edges, counted)
    largest = sorted(numel, key=lambda name: -numel[name])[:MOST_BLOCKS]
    shown = [name for name in numel if name in set(largest)]
    places = {name: place for place, name in enumerate(numel)}
    rows: list[tuple[str, int, float | None, int | None]] = [("", sum(numel.values()), threshold, None)]
    rows += [(name, numel[name], (thresholds or {}).get(name, threshold), places[name]) for name in shown]
    return [_histogram(name, edges, size, counted, place, limit) for name, size, limit, place in rows]


def _histogram(
    name: str,
    edges: tuple[float, ...],
    numel: int,
    counted: Sequence[Counts | None],
    place: int | None,
    threshold: float | None,
) -> Histogram:
    """Return the histogram of the block at a place, or of all where it is None."""
    bins: list[tuple[int, ...] | None] = []
    zeros = []
    for counts in counted:
        if counts is None:
            bins.append(None)
            zeros.append(0)
            continue
        row = (counts.sum(0) if place is None else counts[place]).tolist()
        bins.append(tuple(row[1:]))
        zeros.append(numel - row[0])
    return Histogram(name, edges, bins[0], bins[1], zeros[0], zeros[1], threshold)


def _trimmed(
    edges: tuple[float, ...], counted: list[Counts | None]
) -> tuple[tuple[float, ...], list[Counts | None]]:
    """Leave out the bins at both ends that nothing is in."""
    totals = np.sum([counts.sum(0) for counts in counted if counts is not None], axis=0)
    used = np.flatnonzero(totals[1:])
    if not used.size:
        return edges, counted
    first, last = int(used[0]), int(used[-1]) + 1
    kept = [0, *range(1 + first, 1 + last)]
    return edges[first : last + 1], [None if counts is None else counts[:, kept] for counts in counted]


def _edges(sides: Sequence[Mapping[str, Tensor]], key_format: KeyFormat) -> tuple[float, ...]:
    """Return the ends of at most 60 bins of equal width that hold nearly all of the weights."""
    limits = {_key(float(decade), key_format): decade for decade in _DECADES}
    counts = sum(_from(side, list(limits), key_format).sum(0) for side in sides)
    from_decade = dict(zip(limits.values(), counts.tolist(), strict=True))
    total = from_decade[_DECADES[0]]
    if not total:
        return (-1.0, 0.0)
    least = total - int(_TAIL * total)
    low = max(decade for decade, count in from_decade.items() if count >= least)
    high = next((decade for decade, count in from_decade.items() if not count), _DECADES[-1] + 1)
    each = next((each for each in _A_DECADE if each * (high - low) <= MOST_BINS), 1)
    step = 1 if each * (high - low) <= MOST_BINS else math.ceil((high - low) / MOST_BINS)
    count = math.ceil((high - low) * each / step)
    return tuple(round(low + index * step / each, 6) for index in range(count + 1))


def _count(side: Mapping[str, Tensor], edges: Sequence[float], key_format: KeyFormat) -> Counts:
    """Count for each block the weights that are not zero, then those in each bin: int64 [blocks, 1 + bins]."""
    keys = [_key(edge, key_format) for edge in edges[1:-1]]
    counts = _from(side, [1, *keys], key_format)
    above = np.concatenate([counts[:, 1:], np.zeros_like(counts[:, :1])], axis=1)
    return np.concatenate([counts[:, :1], counts - above], axis=1)


def _from(side: Mapping[str, Tensor], limits: list[int], key_format: KeyFormat) -> Counts:
    """Count the finite magnitudes of each block from each limit on: int64 [blocks, limits]."""
    sources = [MagnitudeKeys(name, tensor, key_format) for name, tensor in side.items()]
    reader = KeyReader(sources, key_format, thread_count(sources))
    limits = [*limits, key_format.infinity]
    counts, _ = reader.scan(limits, [False] * len(limits))
    return counts[:, :-1] - counts[:, -1:]


def _key(edge: float, key_format: KeyFormat) -> int:
    """Return the key of the magnitude 10 ** edge."""
    value = torch.tensor(10.0**edge, dtype=key_format.dtype, device="cpu")
    return int(value.view(key_format.integer).item())
