"""Loops of kernels: over blocks and a smaller rest, and over the vectors of a row with its padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from gpmt.arithmetic import round_up
from gpmt.runtime.codegen.emitter import Emitter, constant
from gpmt.runtime.codegen.shuffles import keep_first, store_first


def block_loop(
    e: Emitter,
    start: ir.Value | int,
    stop: ir.Value | int,
    total: int,
    block: int,
    body: Callable[[ir.Value, int], None],
) -> None:
    """Write a loop from start to stop in blocks; the body is written twice if the last block of all is smaller.

    Args:
        start: a multiple of `block`.
        stop: a multiple of `block`, or `total`.
        total: the end of the range that all items have together; it determines the size of the last block.
        block: size of the other blocks.
        body: takes the index at which a block begins, and its size.
    """
    whole = total - total % block
    start = constant(start) if isinstance(start, int) else start
    stop = constant(stop) if isinstance(stop, int) else stop
    if whole:
        with e.loop(start, e.minimum(stop, constant(whole)) if whole < total else stop, block) as index:
            body(index, block)
    if whole < total:
        with e.loop(e.maximum(start, constant(whole)), stop, block) as index:
            body(index, total - whole)


@dataclass(frozen=True)
class RowVector:
    """One vector of a row.

    Attributes:
        x: the column at which it begins.
        pixels: how many of its elements are pixels; the others are padding.
        in_row: how many of its elements belong to the row.
    """

    x: ir.Value
    pixels: int
    in_row: int

    def store(self, e: Emitter, value: ir.Value, row: ir.Value) -> None:
        """Write the pixels, and zeros to the padding, of the row at an address."""
        value = keep_first(e, value, self.pixels) if self.pixels else e.splat(0.0)
        store_first(e, value, e.add(row, e.mul(self.x, 4)), self.in_row)


def row_loop(
    e: Emitter,
    width: int,
    pitch: int,
    body: Callable[[RowVector], None],
    *,
    full: int | None = None,
    unroll: int = 4,
) -> None:
    """Write a body for every vector of a row.

    Args:
        width: pixels of the row.
        pitch: elements of the row, padding included.
        body: writes the code for one vector.
        full: so many vectors from the first on need the same code, so that they can be looped over; by default
            those with pixels only.
        unroll: how many of these the loop's body has.
    """
    lanes = e.lanes
    full = width // lanes if full is None else min(full, width // lanes)
    looped = full - full % unroll if full > 2 * unroll else 0
    if looped:
        with e.loop(0, looped * lanes, unroll * lanes) as x:
            for i in range(unroll):
                body(RowVector(e.add(x, i * lanes), lanes, lanes))
    # There may be thousands of vectors with padding only: these are looped over too.
    end = round_up(width, lanes)
    padding = (pitch - end) // lanes * lanes if pitch - end > 8 * lanes else 0
    for x0 in range(looped * lanes, end, lanes):
        body(RowVector(constant(x0), min(lanes, width - x0), min(lanes, pitch - x0)))
    if padding:
        with e.loop(end, end + padding, lanes) as x:
            body(RowVector(x, 0, lanes))
    for x0 in range(end + padding, pitch, lanes):
        body(RowVector(constant(x0), 0, min(lanes, pitch - x0)))
