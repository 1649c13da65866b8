"""What straight-line code of all processors shares: the weights in the order of the code, and where instructions are.

Everything is computed for all weights of a layer at once, so that NumPy writes millions of instructions in a second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div, round_up

FLOAT_BYTES = 4
LINE_BYTES = 64
"""Bytes of a cache line: how far apart addresses are that are prefetched."""
BOUNDS = 2
"""Constants between biases and weights: the bounds of the activation."""


@dataclass(frozen=True)
class Shape:
    """What the code of a layer looks like.

    Attributes:
        filters: of a group at most.
        passes: over parts of the taps.
        aligned: whether taps that cross cache lines are joined from two of them; for AVX-512 only.
        prefetched_over: turns over which the next block is prefetched; 0 for no prefetch.
        vectors: of pixels in a turn, each with its own accumulators; for NEON only.
    """

    filters: int
    passes: int = 1
    aligned: bool = False
    prefetched_over: int = 0
    vectors: int = 1


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

    @property
    def most(self) -> int:
        """Filters of the largest group."""
        return int(np.diff(self.edges).max(initial=0))

    def bounds_at(self, unit: int) -> NDArray[np.int64]:
        """Return where each group's constants have the bounds: behind the biases, at a multiple of `unit`."""
        return -(-np.diff(self.edges) // unit) * unit

    def weights_at(self, unit: int) -> NDArray[np.int64]:
        """Return where each group's constants have the weights: behind the bounds, at a multiple of `unit`."""
        return self.bounds_at(unit) + round_up(BOUNDS, unit)


@dataclass(frozen=True, eq=False)
class Order:
    """Where weights are in their blocks.

    Attributes:
        first: int64 [blocks], the first weight of each block.
        weights: int64 [blocks], their number.
        place: int64 [weights], of each weight among the constants of its block.
        starts: bool [weights], whether it is the first of its block.
        new_tap: bool [weights], whether it is the first of its tap, so that pixels are loaded.
    """

    first: NDArray[np.int64]
    weights: NDArray[np.int64]
    place: NDArray[np.int64]
    starts: NDArray[np.bool_]
    new_tap: NDArray[np.bool_]

    @staticmethod
    def of(groups: Groups, shape: Shape, unit: int) -> Order:
        """Return the order; weights begin at a multiple of `unit`."""
        blocks, n = shape.passes * groups.count, len(groups.block)
        weights = np.bincount(groups.block, minlength=blocks)
        first = np.cumsum(weights) - weights
        place = groups.weights_at(unit)[groups.block % groups.count] + np.arange(n) - first[groups.block]
        starts = np.zeros(n, np.bool_)
        starts[first[weights > 0]] = True
        new_tap = starts.copy()
        new_tap[1:] |= groups.tap[1:] != groups.tap[:-1]
        return Order(first, weights, place, starts, new_tap)


class Stream(ABC):
    """The instructions between the heads and the feet of the blocks.

    At each weight there can be instructions of several *kinds*, in the order of their numbers.

    Attributes:
        NEW_PAGE, PREFETCH: kinds that all processors have.
        groups, order: the weights.
        sizes: int64 [kinds], bytes of each.
        needed: bool [weights, kinds].
        prefetches: int64 [blocks], lines that are prefetched at every turn.
        prefetch_number: int64 [weights], which of them, where there is one.
        loads: of pixels, by all blocks in a turn.
    """

    NEW_PAGE: ClassVar[int] = 0
    PREFETCH: ClassVar[int] = 1

    groups: Groups
    order: Order
    sizes: NDArray[np.int64]
    needed: NDArray[np.bool_]
    prefetches: NDArray[np.int64]
    prefetch_number: NDArray[np.int64]
    loads: int

    @abstractmethod
    def write(self, data: NDArray[np.uint8], at: NDArray[np.int64]) -> None:
        """Write all instructions; int64 [weights, kinds] is where they are."""

    def turn_pages(self, page: NDArray[np.int64]) -> None:
        """Note where the address of the weights moves on; `page` says which page each weight is in."""
        self.needed[1:, self.NEW_PAGE] = page[1:] != page[:-1]
        self.needed[self.order.starts, self.NEW_PAGE] = False

    def spread_prefetches(self, over: int, most: int) -> None:
        """Spread prefetches of the next block over `over` turns (0: none): at most `most` in each, evenly."""
        first, weights = self.order.first, self.order.weights
        self.prefetches = np.zeros(len(weights), np.int64)
        self.prefetch_number = np.zeros(len(self.needed), np.int64)
        if not over:
            return
        code = np.bincount(self.groups.block, self.needed @ self.sizes, len(weights))
        size = code + FLOAT_BYTES * weights + 1024
        wanted = np.ceil(np.roll(size, -1) / LINE_BYTES / over).astype(np.int64)
        self.prefetches = np.minimum(np.minimum(wanted, -(-weights // 3)), most)
        owner = np.repeat(np.arange(len(weights)), self.prefetches)
        turn = np.arange(len(owner)) - np.repeat(
            np.cumsum(self.prefetches) - self.prefetches, self.prefetches
        )
        at = first[owner] + turn * weights[owner] // self.prefetches[owner]
        self.needed[at, self.PREFETCH] = True
        self.prefetch_number[at] = turn

    def put(
        self, data: NDArray[np.uint8], at: NDArray[np.int64], kind: int, patterns: NDArray[np.uint8]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Write a kind of instruction, uint8 [bytes] or [instructions, bytes]; return where, and at which weights."""
        where = self.needed[:, kind]
        places = at[where, kind]
        data[places[:, None] + np.arange(patterns.shape[-1])] = patterns
        return places, where


def changes(
    wanted: NDArray[np.int64], uses: NDArray[np.bool_], block: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return where something is wanted that the last use in the same block did not have.

    Args:
        wanted: int64 [weights], such as the line that is loaded.
        uses: bool [weights], where it is wanted.
        block: int64 [weights].
    """
    at = np.flatnonzero(uses)
    changed = np.ones(len(at), np.bool_)
    changed[1:] = (wanted[at][1:] != wanted[at][:-1]) | (block[at][1:] != block[at][:-1])
    result = np.zeros(len(wanted), np.bool_)
    result[at] = changed
    return result


def pattern(code: bytes) -> NDArray[np.uint8]:
    """Return bytes as an array."""
    return np.frombuffer(code, np.uint8)
