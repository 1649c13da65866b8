"""The thresholds of floors: the keys of one rank in one tensor each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpmt.core.keys import device_keys, key_loops
from gpmt.core.keys.key_reader import Counts, KeyReader, Keys, Stored, map_groups, part_of, thread_count
from gpmt.core.keys.keys import KeySource
from gpmt.core.selection.threshold_search import find_thresholds

SMALL = 1 << 16
"""Most keys that are copied and partitioned, which takes no sample and no search."""


def own_thresholds(reader: KeyReader, indices: Sequence[int], floors: Counts) -> dict[int, tuple[int, int]]:
    """Return, for some tensors, the key of the rank of their floor and how many keys are above it, by index.

    The floors are 1 to the size of the tensor.
    """
    if not indices:
        return {}
    sources = [reader.sources[index] for index in indices]

    def work(group: list[int]) -> dict[int, tuple[int, int]]:
        return _find(reader, [indices[place] for place in group], floors)

    found: dict[int, tuple[int, int]] = {}
    for part in map_groups(sources, work, thread_count(sources)):
        found |= part
    return found


def _find(reader: KeyReader, indices: Sequence[int], floors: Counts) -> dict[int, tuple[int, int]]:
    found = {}
    small = [index for index in indices if reader.sizes[index] <= SMALL]
    for index in indices:
        if reader.sizes[index] > SMALL:
            alone = KeyReader([reader.sources[index]], reader.key_format, 1)
            [threshold] = find_thresholds(alone, [int(floors[index])], np.zeros(1, np.int64))
            found[index] = (threshold.key, int(threshold.above[0]))
    part = part_of(reader.sources, small)
    for run in part.stored:
        found.update(_in_place(reader, run, floors))
    for index in part.others:
        keys = _all_keys(reader, reader.sources[index])
        place = len(keys) - int(floors[index])
        keys.partition(place)
        found[index] = (int(keys[place]), int((keys > keys[place]).sum()))
    return found


def _in_place(reader: KeyReader, run: Stored, floors: Counts) -> dict[int, tuple[int, int]]:
    keys = np.empty(len(run.indices), reader.key_format.word)
    above = np.empty(len(run.indices), np.int64)
    scratch = np.empty(run.sizes.max(), keys.dtype)
    key_loops.find_ranks(
        run.addresses, run.sizes, run.element, reader.sign, floors[run.indices], scratch, keys, above
    )
    return dict(zip(run.indices.tolist(), zip(keys.tolist(), above.tolist(), strict=True), strict=True))


def _all_keys(reader: KeyReader, source: KeySource) -> Keys:
    chunks = [device_keys.keys_of(chunk, reader.key_format).cpu().numpy() for chunk in source.chunks()]
    return np.concatenate(chunks)
