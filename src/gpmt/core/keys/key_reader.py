"""Passes over the keys of a network: a sample, or exact counts together with the keys of some intervals.

Sources whose keys can be read where they lie are read together, without a call for each; the others chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.core.keys import device_keys, key_loops, pool_loops
from gpmt.core.keys.keys import KeyFormat, KeySource, MagnitudeKeys, every_nth

Counts = NDArray[np.int64]
Keys = NDArray[np.int32 | np.int64]

MAX_THREADS = 8

_T = TypeVar("_T")


def thread_count(sources: Sequence[KeySource]) -> int:
    """Return how many threads to read the keys with: a small network is not worth a second one.

    Keys that are not on a CPU are read by the caller's thread alone: any other would queue its reads on another
    stream of the device, where they do not wait for what the caller has queued.
    """
    if any(source.device.type != "cpu" for source in sources):
        return 1
    if sum(source.numel for source in sources) < 1 << 19:
        return 1
    return min(torch.get_num_threads(), MAX_THREADS, len(sources))


def split(sources: Sequence[KeySource], groups: int) -> list[list[int]]:
    """Split the sources, by index, into groups of about equal size."""
    found: list[list[int]] = [[] for _ in range(groups)]
    if groups == 1:
        return [list(range(len(sources)))]
    loads = [0] * groups
    for index in sorted(range(len(sources)), key=lambda i: -sources[i].numel):
        lightest = loads.index(min(loads))
        found[lightest].append(index)
        loads[lightest] += sources[index].numel
    return found


def map_groups(sources: Sequence[KeySource], work: Callable[[list[int]], _T], threads: int) -> list[_T]:
    """Return `work(indices)` of each of `threads` groups of sources of about equal size."""
    return in_threads(work, split(sources, threads))


def in_threads(work: Callable[[Any], _T], parts: Sequence[Any]) -> list[_T]:
    """Return `work(part)` of each part, each in a thread of its own; a single one in the caller's."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(len(parts), thread_name_prefix="gpmt") as pool:
        return list(pool.map(work, parts))


@dataclass(frozen=True, eq=False)
class Pool:
    """Every `every`-th key of each source that lies in some intervals: all of them where it is 1."""

    keys: Keys
    offsets: Counts
    """Where the keys of each source start."""
    lengths: Counts
    every: int

    def outside(self, lower: int, upper: int, take: Counts) -> Keys:
        """Return the keys in [lower, upper) without the `take` [sources] largest of each source."""
        out = np.empty_like(self.keys)
        count = pool_loops.outside(self.keys, self.offsets, self.lengths, lower, upper, take, out)
        return out[:count]

    def count(self, lower: int, upper: int) -> Counts:
        """Count the keys of each source in [lower, upper)."""
        counts = np.empty_like(self.lengths)
        pool_loops.count_inside(self.keys, self.offsets, self.lengths, lower, upper, counts)
        return counts


@dataclass(frozen=True, eq=False)
class Stored:
    """Sources of one thread that can be read where they lie."""

    indices: Counts
    addresses: Counts
    sizes: Counts
    element: np.generic
    """A zero of the integer type in memory."""

    @classmethod
    def of_chunk(cls, chunk: Tensor) -> Stored:
        """Return a contiguous chunk as one such source."""
        address, size = np.array([chunk.data_ptr()]), np.array([len(chunk)])
        return cls(np.array([0]), address, size, key_loops.ELEMENTS[chunk.element_size()])


@dataclass(frozen=True, eq=False)
class Part:
    """The sources that one thread reads."""

    stored: list[Stored]
    others: list[int]

    @property
    def order(self) -> Counts:
        """The indices of the sources in the order in which they are read."""
        return np.concatenate([*(run.indices for run in self.stored), np.array(self.others, np.int64)])


class KeyReader:
    """Reads the keys of some sources, in threads.

    Attributes:
        passes: how often all keys have been read; samples do not count.
    """

    def __init__(self, sources: Sequence[KeySource], key_format: KeyFormat, threads: int) -> None:
        self.sources, self.key_format = sources, key_format
        self.sizes = np.array([source.numel for source in sources], np.int64)
        self.parts = [part_of(sources, group) for group in split(sources, threads)]
        self.sign = key_format.word(-1 if key_format.signed else 0)
        self.passes = 0

    def sample(self, every: int) -> Pool:
        """Return every `every`-th key of all sources together."""
        starts = np.cumsum(self.sizes) - self.sizes
        firsts = (every // 2 - starts) % every
        counts = np.maximum(0, -((firsts - self.sizes) // every))

        def work(part: Part) -> tuple[Counts, Keys]:
            order = part.order
            buffer = np.empty(counts[order].sum(), self.key_format.word)
            filled = 0
            for run in part.stored:
                filled += key_loops.sample(
                    run.addresses,
                    run.sizes,
                    firsts[run.indices],
                    run.element,
                    self.sign,
                    every,
                    buffer[filled:],
                )
            for index in part.others:
                for keys in self._sample(self.sources[index], int(firsts[index]), every):
                    buffer[filled : filled + len(keys)] = keys
                    filled += len(keys)
            return order, buffer

        return self._pool(in_threads(work, self.parts), counts, every)

    def _sample(self, source: KeySource, first: int, every: int) -> Iterable[Keys]:
        if isinstance(source, MagnitudeKeys):
            chunks: Iterable[Tensor] = source.sample(first, every)
        else:
            chunks = every_nth(source.chunks(), first, every)
        for chunk in chunks:
            yield device_keys.keys_of(chunk, self.key_format).cpu().numpy()

    def scan(
        self, limits: Sequence[int], collected: Sequence[bool], every: int = 1, room: int = 0
    ) -> tuple[Counts, Pool | None]:
        """Read all keys: count those from each limit on, and collect some in between.

        Args:
            limits: keys, ascending and distinct.
            collected: for each limit, whether to collect the keys from it on, up to the next.
            every: collect only every `every`-th key.
            room: the number of keys that can be collected.

        Returns:
            The counts [sources, limits], and the keys collected, or None where there was no room for all.
        """
        counts = np.zeros((len(self.sources), len(limits)), np.int64)
        each = -(-room // len(self.parts))
        self.passes += 1

        def work(part: Part) -> tuple[Counts, Counts, Keys, int]:
            scan = _Scan(self, list(limits), list(collected), every, each)
            ends = [scan.stored(run, counts) for run in part.stored]
            ends += [scan.chunks(index, counts) for index in part.others]
            return part.order, np.concatenate([np.empty(0, np.int64), *ends]), scan.buffer, int(scan.state[0])

        done = in_threads(work, self.parts)
        if any(filled > len(buffer) for _, _, buffer, filled in done):
            return counts, None
        lengths = np.zeros(len(self.sources), np.int64)
        for order, ends, _, _ in done:
            lengths[order] = np.diff(ends, prepend=0)
        return counts, self._pool(
            [(order, buffer[:filled]) for order, _, buffer, filled in done], lengths, every
        )

    def _pool(self, read: Sequence[tuple[Counts, Keys]], lengths: Counts, every: int) -> Pool:
        """Join what the threads have read, each in an order of its own."""
        order = np.concatenate([order for order, _ in read])
        offsets = np.empty_like(lengths)
        offsets[order] = np.cumsum(lengths[order]) - lengths[order]
        keys = read[0][1] if len(read) == 1 else np.concatenate([keys for _, keys in read])
        return Pool(keys, offsets, lengths, every)


class _Scan:
    """One thread's part of a scan."""

    def __init__(
        self, reader: KeyReader, limits: list[int], collected: list[bool], every: int, room: int
    ) -> None:
        self.reader, self.limits, self.every = reader, limits, every
        self.keys, self.collected = np.array(limits, reader.key_format.word), np.array(collected, np.bool_)
        ends = zip(limits, [*limits[1:], reader.key_format.upper], strict=True)
        self.intervals = [pair for pair, wanted in zip(ends, collected, strict=True) if wanted]
        self.buffer = np.empty(room, reader.key_format.word)
        self.state = np.array([0, every // 2], np.int64)

    def stored(self, run: Stored, counts: Counts) -> Counts:
        """Read sources where they lie; return how many keys were collected up to the end of each."""
        found = np.zeros((len(run.indices), len(self.limits)), np.int64)
        ends = np.empty(len(run.indices), np.int64)
        key_loops.scan(
            run.addresses,
            run.sizes,
            run.element,
            self.reader.sign,
            self.keys,
            self.collected,
            self.every,
            found,
            self.buffer,
            ends,
            self.state,
        )
        counts[run.indices] = found
        return ends

    def chunks(self, index: int, counts: Counts) -> Counts:
        """Read one source chunk by chunk; return how many keys were collected up to its end."""
        source = self.reader.sources[index]
        if source.device.type == "cpu":
            for chunk in source.chunks():
                chunk = chunk.contiguous()
                found = np.zeros((1, len(self.limits)), np.int64)
                self.stored(Stored.of_chunk(chunk), found)
                counts[index] += found[0]
        else:
            self._on_device(source, counts[index])
        return self.state[:1].copy()

    def _on_device(self, source: KeySource, counts: Counts) -> None:
        totals = []
        for chunk in source.chunks():
            keys = device_keys.keys_of(chunk, self.reader.key_format)
            totals.append(device_keys.count_from(keys, self.limits))
            if self.intervals:
                found = device_keys.inside(keys, self.intervals)
                stored, skip = self.state.tolist()
                hits = found[skip :: self.every].cpu().numpy()
                room = self.buffer[stored : stored + len(hits)]
                room[:] = hits[: len(room)]
                self.state[:] = stored + len(hits), skip + len(hits) * self.every - len(found)
        if totals:
            counts += torch.stack(totals).sum(0).cpu().numpy()


def count_above(source: KeySource, key_format: KeyFormat, key: int) -> tuple[int, int]:
    """Return how many keys of one source are above a key, and how many equal to it."""
    counts, _ = KeyReader([source], key_format, threads=1).scan([key, key + 1], [False, False])
    from_key, above = counts[0].tolist()
    return above, from_key - above


def part_of(sources: Sequence[KeySource], group: Sequence[int]) -> Part:
    """Sort the sources of a group into those that can be read where they lie, by their type, and others."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    others = []
    for index in group:
        source = sources[index]
        tensor = source.stored() if isinstance(source, MagnitudeKeys) else None
        if tensor is None:
            others.append(index)
        else:
            indices, addresses = found.setdefault(tensor.element_size(), ([], []))
            indices.append(index)
            addresses.append(tensor.data_ptr())
    stored = [
        Stored(
            np.array(indices, np.int64),
            np.array(addresses, np.int64),
            np.array([sources[index].numel for index in indices], np.int64),
            key_loops.ELEMENTS[size],
        )
        for size, (indices, addresses) in found.items()
    ]
    return Part(stored, others)
