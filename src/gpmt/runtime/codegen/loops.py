"""How kernels walk over images: which rows of which channels an item has, and rows in vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from llvmlite import ir

from gpmt.arithmetic import ceil_div, round_up
from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.shuffles import keep_first, store_first

WORK = 65536  # numbers that an item should go through, at most: some microseconds
LEAST = 16384  # and at least
PARTS = 64  # how many items there should be before they get smaller than WORK

Index: TypeAlias = ir.Value


@dataclass(frozen=True)
class Cut:
    """The rows of all channels of all images, cut into items.

    Attributes:
        channels_each, rows_each: of an item; the last ones of an image or of a plane can have fewer.
    """

    images: int
    channels: int
    rows: int
    channels_each: int
    rows_each: int

    @staticmethod
    def of(images: int, channels: int, rows: int, row: int, *, by: int = 1, rows_by: int = 1) -> Cut:
        """Return how to cut.

        Args:
            row: the work of a row.
            by, rows_by: what the numbers of channels and rows of an item are multiples of.
        """
        work = max(LEAST, min(WORK, images * channels * rows * row // PARTS))
        channels_each = _share(channels, max(1, work // (rows * row)), by)
        rows_each = _share(rows, max(1, work // (channels_each * row)), rows_by)
        return Cut(images, channels, rows, channels_each, rows_each)

    @property
    def items(self) -> int:
        """How many items there are."""
        return self.images * ceil_div(self.channels, self.channels_each) * ceil_div(self.rows, self.rows_each)

    def of_item(self, e: Emitter) -> tuple[Index, Index, Index, Index, Index]:
        """Return the item's image, its first channel and last + 1, its first row and last + 1."""
        place, rows = e.divmod(e.item, ceil_div(self.rows, self.rows_each))
        image, channels = e.divmod(place, ceil_div(self.channels, self.channels_each))
        return (
            image,
            *_range(e, channels, self.channels_each, self.channels),
            *_range(e, rows, self.rows_each, self.rows),
        )


class Walk(ABC):
    """A kernel that shares its work out by a `Cut`."""

    @property
    @abstractmethod
    def _cut(self) -> Cut: ...

    @property
    def items(self) -> int:
        """Pieces of work."""
        return self._cut.items


def _share(total: int, most: int, by: int) -> int:
    """Return the size of equal parts of about `most`, a multiple of `by`."""
    parts = ceil_div(total, max(most, by))
    return ceil_div(total, parts * by) * by


def _range(e: Emitter, index: Index, each: int, total: int) -> tuple[Index, Index]:
    first = e.mul(index, each)
    last = e.add(first, each)
    return first, last if total % each == 0 else least(e, last, constant(total))


def least(e: Emitter, left: Index, right: Index) -> Index:
    """Return the smaller of two integers."""
    return e.builder.select(e.builder.icmp_signed("<", left, right), left, right)


def most(e: Emitter, left: Index, right: Index) -> Index:
    """Return the larger of two integers."""
    return e.builder.select(e.builder.icmp_signed(">", left, right), left, right)


def stepped(
    e: Emitter,
    start: Index | int,
    stop: Index | int,
    total: int,
    step: int,
    body: Callable[[Index, int], None],
) -> None:
    """Write a body for steps of `step` from start (a multiple of it) to stop, and once more for the rest.

    The body takes where it begins and how much it does: `step`, or what `total` leaves over.
    """
    whole = total - total % step
    start = constant(start) if isinstance(start, int) else start
    stop = constant(stop) if isinstance(stop, int) else stop
    if whole:
        with e.loop(start, least(e, stop, constant(whole)) if whole < total else stop, step) as index:
            body(index, step)
    if whole < total:
        with e.loop(most(e, start, constant(whole)), stop, step) as index:
            body(index, total - whole)


@dataclass(frozen=True)
class Piece:
    """One vector of a row.

    Attributes:
        x: where it begins.
        pixels: how many of its numbers are pixels; the others are pads.
        room: how many of its numbers belong to the row.
    """

    x: Index
    pixels: int
    room: int

    def store(self, e: Emitter, value: ir.Value, row: Index) -> None:
        """Write the pixels, and zeros for the pads, to a row that begins at an address."""
        value = keep_first(e, value, self.pixels) if self.pixels else e.splat(0.0)
        store_first(e, value, e.add(row, e.mul(self.x, 4)), self.room)


def along(
    e: Emitter,
    width: int,
    pitch: int,
    body: Callable[[Piece], None],
    *,
    whole: int | None = None,
    unroll: int = 4,
) -> None:
    """Write a body for every vector of a row of `width` pixels and `pitch` numbers.

    Args:
        whole: the first so many vectors are alike and may be taken in a loop; by default those with pixels only.
        unroll: how many of them at once.
    """
    lanes = e.lanes
    whole = width // lanes if whole is None else min(whole, width // lanes)
    looped = whole - whole % unroll if whole > 2 * unroll else 0
    if looped:
        with e.loop(0, looped * lanes, unroll * lanes) as x:
            for i in range(unroll):
                body(Piece(e.add(x, i * lanes), lanes, lanes))
    # Many vectors of pads, of which there may be thousands, are taken in a loop too.
    end = round_up(width, lanes)
    pads = (pitch - end) // lanes * lanes if pitch - end > 8 * lanes else 0
    for x0 in range(looped * lanes, end, lanes):
        body(Piece(constant(x0), min(lanes, width - x0), min(lanes, pitch - x0)))
    if pads:
        with e.loop(end, end + pads, lanes) as x:
            body(Piece(x, 0, lanes))
    for x0 in range(end + pads, pitch, lanes):
        body(Piece(constant(x0), 0, min(lanes, pitch - x0)))
