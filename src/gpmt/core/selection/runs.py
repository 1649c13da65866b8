"""The largest keys of every run of consecutive keys: of rows, or of every M inputs, with ties to the lower index.

A source gives the keys run by run. They are read in its chunks, and whole runs of a chunk are decided together, so
that memory is a few chunks, or one run where a run is longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from gpmt.core.keys import device_keys, key_loops, run_loops
from gpmt.core.keys.key_reader import map_groups, thread_count
from gpmt.core.keys.keys import CHUNK, KeyFormat, KeySource


def pack_runs(
    sources: Sequence[KeySource], key_format: KeyFormat, *, lengths: Sequence[int], kept: Sequence[int]
) -> list[Tensor]:
    """Return the bits of each source, uint8 [ceil(numel / 8)] on the CPU: set for the kept[l] largest of each run.

    Args:
        sources: keys, none of which is too large to be ranked; their number is a multiple of the length.
        key_format: what they are.
        lengths: the length of the runs of each source.
        kept: how many of each run stay.
    """
    packed: dict[int, Tensor] = {}

    def work(group: list[int]) -> None:
        for index in group:
            packed[index] = _pack(sources[index], key_format, lengths[index], kept[index])

    map_groups(sources, work, thread_count(sources))
    return [packed[index] for index in range(len(sources))]


def _pack(source: KeySource, key_format: KeyFormat, length: int, kept: int) -> Tensor:
    bits, start = np.zeros((source.numel + 7) // 8, np.uint8), 0
    room = min(source.numel, max(CHUNK, length))
    buffer, flags = np.empty(room, key_format.word), np.empty(room, np.bool_)
    for chunk in whole_runs(source.chunks(), length):
        if chunk.device.type == "cpu":
            keys, marks = buffer[: len(chunk)], flags[: len(chunk)]
            if key_format.signed:
                keys[:] = device_keys.keys_of(chunk, key_format).numpy()
            else:
                np.bitwise_and(chunk.numpy(), key_format.word((1 << key_format.bits) - 1), out=keys)
            run_loops.mark(keys, length, kept, marks)
        else:
            keys_there = device_keys.keys_of(chunk, key_format).view(-1, length)
            marks = mark_on_device(keys_there, kept).cpu().numpy().reshape(-1)
        key_loops.shift_in(bits, start, np.packbits(marks, bitorder="little"))
        start += len(marks)
    return torch.from_numpy(bits)


def whole_runs(chunks: Iterable[Tensor], length: int) -> Iterator[Tensor]:
    """Yield the same keys in chunks of whole runs, of at most `CHUNK` keys or one run.

    >>> [chunk.tolist() for chunk in whole_runs(torch.arange(9).split(4), 3)]
    [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    """
    rest: list[Tensor] = []
    at_a_time = max(1, CHUNK // length) * length
    for chunk in chunks:
        if rest:
            missing = length - sum(map(len, rest))
            rest.append(chunk[:missing])
            chunk = chunk[missing:]
            if sum(map(len, rest)) == length:
                yield torch.cat(rest)
                rest = []
        whole = len(chunk) // length * length
        if whole:
            yield from torch.split(chunk[:whole], at_a_time)
        if whole < len(chunk):
            rest.append(chunk[whole:])


def mark_on_device(keys: Tensor, kept: int) -> Tensor:
    """Return which of the keys [runs, length] are among the largest of their run, in PyTorch's operations."""
    if not kept:
        return torch.zeros_like(keys, dtype=torch.bool)
    smallest = keys.topk(kept, dim=1).values[:, -1:]
    larger, equal = keys > smallest, keys == smallest
    left = kept - larger.sum(1, keepdim=True)
    return larger | (equal & (equal.cumsum(1) <= left))


def most_in_a_run(marks: Tensor, length: int) -> int:
    """Return the largest number of marks in any run: bools in the order of the runs."""
    counts = (chunk.reshape(-1, length).sum(1).max() for chunk in whole_runs([marks.reshape(-1)], length))
    return max((int(count) for count in counts), default=0)
