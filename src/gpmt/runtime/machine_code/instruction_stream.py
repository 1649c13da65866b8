"""The instructions between start and end of a block of straight-line code: which there are, and their bytes.

Everything is computed for all weights of a layer at once, so that NumPy writes millions of instructions in a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div
from gpmt.runtime.machine_code import avx512
from gpmt.runtime.machine_code.avx512 import FLOAT_BYTES, VECTOR_BYTES, Register

MOST_FILTERS = 31
"""Filters of a group: all registers but the one for pixels."""
MOST_FILTERS_ALIGNED = 29
"""With two more registers for lines."""

WEIGHTS, INPUT, NEXT = Register.RAX, Register.RDI, Register.R10
"""Where the code has the address of weights (a page's middle), of pixels, and of what it prefetches."""
BOUNDS = 2
"""Constants behind the biases, before the weights: the bounds of the activation."""
PAGE = 256
"""Constants that short displacements reach, from -128 to 127."""
PAGE_BYTES = FLOAT_BYTES * PAGE


@dataclass(frozen=True)
class Shape:
    """What the code of a layer looks like.

    Attributes:
        filters: of a group at most.
        passes: over parts of the taps.
        aligned: whether taps that cross cache lines are joined from two of them.
        prefetched_over: vectors over which the next block is prefetched; 0 for no prefetch.
    """

    filters: int = MOST_FILTERS
    passes: int = 1
    aligned: bool = False
    prefetched_over: int = 0


@dataclass(frozen=True, eq=False)
class Groups:
    """The weights that are not zero, in the order of the code: by block, tap and filter.

    Attributes:
        count: number of groups.
        edges: int64 [count + 1], the first filter of each group.
        block, tap, accumulator, value: of each weight; block = pass · count + group.
    """

    count: int
    edges: NDArray[np.int64]
    block: NDArray[np.int64]
    tap: NDArray[np.int64]
    accumulator: NDArray[np.int64]
    value: NDArray[np.float32]

    @staticmethod
    def of(weight: NDArray[np.float32], shape: Shape) -> Groups:
        """Return the groups of a layer with weights [filters, taps], as even as they can be."""
        filters, taps = weight.shape
        count = ceil_div(filters, shape.filters)
        edges = np.linspace(0, filters, count + 1).astype(np.int64)
        tap, filter_ = np.nonzero(weight.T)
        group = np.searchsorted(edges, filter_, side="right") - 1
        pass_ends = np.linspace(0, taps, shape.passes + 1).astype(np.int64)[1:]
        block = np.searchsorted(pass_ends, tap, side="right") * count + group
        order = np.argsort(block, kind="stable")
        tap, filter_, block = tap[order], filter_[order], block[order]
        return Groups(
            count, edges, block, tap, filter_ - edges[group[order]], weight[filter_, tap].astype(np.float32)
        )

    def first(self, group: int) -> int:
        """Return the first filter of a group."""
        return int(self.edges[group])

    def size(self, group: int) -> int:
        """Return the number of filters in a group."""
        return int(self.edges[group + 1] - self.edges[group])

    def constants(self, blocks: int) -> NDArray[np.int64]:
        """Return how many constants each block has before its weights: biases and bounds."""
        return np.resize(np.diff(self.edges), blocks) + BOUNDS


# What comes before the multiply-add of a weight, where it is needed, in this order; and the multiply-add.
_NEW_PAGE, _PREFETCH, _EVEN_LINE, _ODD_LINE, _JOIN, _FMA = range(6)
_PATTERNS = (
    avx512.increase(WEIGHTS, PAGE_BYTES),
    avx512.prefetch(NEXT, 0, wide=True),
    avx512.load(0, INPUT, 0, wide=True),
    avx512.load(0, INPUT, 0, wide=True),
    avx512.align(0, 0, 0, 0),
    avx512.multiply_add(0, 0, WEIGHTS, 0),
)
INSTRUCTION_BYTES = np.array([len(pattern) for pattern in _PATTERNS])
LOADS = (_EVEN_LINE, _ODD_LINE)


@dataclass(frozen=True, eq=False)
class Stream:
    """The instructions between the heads and the feet of the blocks.

    Attributes:
        needed: bool [weights, 6], which instructions there are at each weight.
        line_offsets: int64 [weights, 2], the offsets of pixels that the two loads read.
        shift: int64 [weights], the elements that lines are joined at.
        swapped: bool [weights], whether the odd line is the lower one.
        pixels: int64 [weights], the vector register with the pixels.
        page_place: int64 [weights], where the weight is in its page, from -128 on.
        prefetch_number: int64 [weights].
        prefetches: int64 [blocks], lines that are prefetched at every vector.
        first: int64 [blocks], the first weight of each block.
        weights: int64 [blocks], their number.
    """

    needed: NDArray[np.bool_]
    line_offsets: NDArray[np.int64]
    shift: NDArray[np.int64]
    swapped: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    page_place: NDArray[np.int64]
    prefetch_number: NDArray[np.int64]
    prefetches: NDArray[np.int64]
    first: NDArray[np.int64]
    weights: NDArray[np.int64]
    most: int

    @staticmethod
    def of(groups: Groups, offsets: NDArray[np.int64], shape: Shape) -> Stream:
        """Return the instructions for a layer whose taps read at offsets [taps]."""
        blocks = shape.passes * groups.count
        n = len(groups.block)
        most = int(np.diff(groups.edges).max(initial=0))
        weights = np.bincount(groups.block, minlength=blocks)
        first = np.cumsum(weights) - weights
        needed = np.zeros((n, 6), np.bool_)
        needed[:, _FMA] = True
        # Biases and bounds come before the weights.
        place = groups.constants(blocks)[groups.block] + np.arange(n) - first[groups.block]
        page = place // PAGE
        starts = np.zeros(n, np.bool_)
        starts[first[weights > 0]] = True
        needed[1:, _NEW_PAGE] = page[1:] != page[:-1]
        needed[starts, _NEW_PAGE] = False
        new_tap = starts.copy()
        new_tap[1:] |= groups.tap[1:] != groups.tap[:-1]
        offset = offsets[groups.tap]
        lines = np.zeros((n, 2), np.int64)
        shift = np.zeros(n, np.int64)
        swapped = np.zeros(n, np.bool_)
        pixels = np.full(n, most)
        if shape.aligned:
            low = offset // VECTOR_BYTES
            shift = offset % VECTOR_BYTES // FLOAT_BYTES
            swapped = (low & 1).astype(np.bool_)
            joined = shift > 0
            for parity, instruction in enumerate(LOADS):
                own = (low & 1) == parity
                wanted = np.where(own, low, low + 1)
                lines[:, parity] = wanted * VECTOR_BYTES
                uses = new_tap & (own | joined)
                needed[:, instruction] = uses & _changes(wanted, uses, groups.block)
            needed[:, _JOIN] = new_tap & joined
            pixels = np.where(joined, most, most + 1 + (low & 1))
        else:
            lines[:, 0] = offset
            needed[:, _EVEN_LINE] = new_tap
        prefetches, number = np.zeros(blocks, np.int64), np.zeros(n, np.int64)
        if shape.prefetched_over:
            size = (
                np.bincount(groups.block, needed @ INSTRUCTION_BYTES, blocks) + FLOAT_BYTES * weights + 1024
            )
            prefetches = np.ceil(np.roll(size, -1) / VECTOR_BYTES / shape.prefetched_over).astype(np.int64)
            prefetches = np.minimum(prefetches, -(-weights // 3))
            owner = np.repeat(np.arange(blocks), prefetches)
            turn = np.arange(len(owner)) - np.repeat(np.cumsum(prefetches) - prefetches, prefetches)
            at = first[owner] + turn * weights[owner] // prefetches[owner]
            needed[at, _PREFETCH] = True
            number[at] = turn
        return Stream(
            needed,
            lines,
            shift,
            swapped,
            pixels,
            place % PAGE - PAGE // 2,
            number,
            prefetches,
            first,
            weights,
            most,
        )


def _changes(
    wanted: NDArray[np.int64], uses: NDArray[np.bool_], block: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return where a line is wanted that the last use in the same block has not loaded already."""
    at = np.flatnonzero(uses)
    changed = np.ones(len(at), np.bool_)
    changed[1:] = (wanted[at][1:] != wanted[at][:-1]) | (block[at][1:] != block[at][:-1])
    result = np.zeros(len(wanted), np.bool_)
    result[at] = changed
    return result


def write_stream(
    data: NDArray[np.uint8], groups: Groups, stream: Stream, at: NDArray[np.int64], *, aligned: bool
) -> None:
    """Write the instructions of all weights, those of one kind together: a pattern, and the bytes that differ."""
    most = stream.most

    def write(kind: int, patterns: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        where = stream.needed[:, kind]
        places = at[where, kind]
        data[places[:, None] + np.arange(patterns.shape[-1])] = patterns
        return places, where

    def write_number(kind: int, places: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
        """Write 4 bytes at the end of instructions."""
        data[places[:, None] + np.arange(INSTRUCTION_BYTES[kind] - 4, INSTRUCTION_BYTES[kind])] = (
            numbers.astype("<i4").view(np.uint8).reshape(-1, 4)
        )

    write(_NEW_PAGE, _pattern(_PATTERNS[_NEW_PAGE]))
    places, where = write(_PREFETCH, _pattern(_PATTERNS[_PREFETCH]))
    write_number(_PREFETCH, places, stream.prefetch_number[where] * VECTOR_BYTES)
    for parity, kind in enumerate(LOADS):
        register = most + 1 + parity if aligned else most
        places, where = write(kind, _pattern(avx512.load(register, INPUT, 0, wide=True)))
        write_number(kind, places, stream.line_offsets[where, parity])
    if aligned:
        even, odd = most + 1, most + 2
        joins = np.stack(
            [_pattern(avx512.align(most, odd, even, 0)), _pattern(avx512.align(most, even, odd, 0))]
        )
        places, where = write(_JOIN, joins[stream.swapped[stream.needed[:, _JOIN]].astype(np.int64)])
        data[places + 6] = stream.shift[where]
    table = np.array(
        [
            [list(avx512.multiply_add(a, most + p, WEIGHTS, FLOAT_BYTES)) for p in range(3 if aligned else 1)]
            for a in range(most)
        ],
        np.uint8,
    ).reshape(most, -1, 7)
    places, _ = write(_FMA, table[groups.accumulator, stream.pixels - most])
    data[places + 6] = stream.page_place.astype(np.int8).view(np.uint8)


def _pattern(code: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(code, np.uint8)
