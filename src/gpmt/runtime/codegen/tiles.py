"""A plane split into tiles of a few vectors, all of one size or of two sizes that differ by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import Emitter


@dataclass(frozen=True)
class Tiles:
    """The tiles of a plane.

    Attributes:
        count: number of tiles.
        large: how many of them, the first ones, are large.
        size: vectors of a large tile; the others have one less.
    """

    count: int
    large: int
    size: int

    @staticmethod
    def of(vectors: int, max_size: int) -> Tiles:
        """Return the fewest tiles of at most `max_size` vectors, with sizes as equal as possible.

        >>> Tiles.of(27, 12)
        Tiles(count=3, large=3, size=9)
        """
        count = ceil_div(vectors, max_size)
        size = ceil_div(vectors, count)
        return Tiles(count, vectors - (size - 1) * count, size)

    @property
    def uneven(self) -> bool:
        """Whether there are small tiles."""
        return self.large < self.count


def emit_tile(
    e: Emitter,
    tile: ir.Value,
    large: ir.Value,
    size: int,
    uneven: bool,
    body: Callable[[ir.Value, int], None],
) -> None:
    """Write the body for a tile; twice if there are small tiles, as the number of vectors is fixed in the code.

    Args:
        tile: index of the tile.
        large, size, uneven: as in `Tiles`.
        body: takes the index of the tile's first vector, and its number of vectors.
    """
    if not uneven:
        body(e.mul(tile, size), size)
        return
    with e.builder.if_else(e.builder.icmp_signed("<", tile, large)) as (is_large, is_small):
        with is_large:
            body(e.mul(tile, size), size)
        with is_small:
            body(e.add(e.mul(tile, size - 1), large), size - 1)
