"""A plane cut into tiles: stretches of a few vectors, all of one size or of two sizes that differ by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from gpmt.arithmetic import ceil_div
from gpmt.runtime.codegen.emitter import Emitter


@dataclass(frozen=True)
class Tiles:
    """How a plane is cut.

    Attributes:
        count: how many tiles there are.
        many: how many of them, the first ones, are large.
        size: vectors of a large tile; the others have one less.
    """

    count: int
    many: int
    size: int

    @staticmethod
    def of(vectors: int, most: int) -> Tiles:
        """Return the fewest tiles of at most `most` vectors, as equal as can be.

        >>> Tiles.of(27, 12)
        Tiles(count=3, many=3, size=9)
        """
        count = ceil_div(vectors, most)
        size = ceil_div(vectors, count)
        return Tiles(count, vectors - (size - 1) * count, size)

    @property
    def uneven(self) -> bool:
        """Whether there are small tiles."""
        return self.many < self.count

    @staticmethod
    def emit(
        e: Emitter,
        tile: ir.Value,
        many: ir.Value,
        size: int,
        uneven: bool,
        body: Callable[[ir.Value, int], None],
    ) -> None:
        """Write `body(first vector, vectors)` for large tiles and, if there are any, for small ones."""
        if not uneven:
            body(e.mul(tile, size), size)
            return
        with e.builder.if_else(e.builder.icmp_signed("<", tile, many)) as (large, small):
            with large:
                body(e.mul(tile, size), size)
            with small:
                body(e.add(e.mul(tile, size - 1), many), size - 1)
