"""Where the numbers of a value lie in memory: images as zero-padded planes, one for each channel.

    pixel (n, c, y, x)  =  float number  n · image + c · plane + front + y · pitch + x  of the buffer

All that is no pixel is 0.0 at all times, so a convolution finds its zero padding in place, and a tap (dy, dx) of
channel c is one constant offset from the output's pixel for the whole plane, taken as one row of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import ceil_div, round_up

LINE = 16  # float32 numbers in a cache line
OVERRUN = 512  # numbers that a kernel may read, but not use, past the last plane


@dataclass(frozen=True)
class Planes:
    """The layout of images [images, channels, height, width].

    Attributes:
        pitch: numbers from a row to the next, pad columns included.
        gap: zeros, at least, before and after the rows of a plane; neighbours share them.
    """

    images: int
    channels: int
    height: int
    width: int
    pitch: int
    gap: int

    @property
    def front(self) -> int:
        """Numbers before the first pixel; pixel (0, 0) of every plane begins a cache line."""
        return round_up(self.gap, LINE)

    @property
    def cover(self) -> int:
        """Numbers from pixel (0, 0) of a plane to the end of its last row, pads included."""
        return self.height * self.pitch

    @property
    def plane(self) -> int:
        """Numbers from a channel to the next: an odd number of cache lines, to spread channels over the cache."""
        lines = ceil_div(self.cover + self.gap, LINE)
        return (lines | 1) * LINE

    @property
    def image(self) -> int:
        """Numbers from an image to the next."""
        return self.channels * self.plane

    @property
    def size(self) -> int:
        """Numbers in the buffer."""
        return self.front + self.images * self.image + OVERRUN

    def offset(self, image: int, channel: int, y: int, x: int) -> int:
        """Return the place of a pixel in the buffer."""
        return image * self.image + channel * self.plane + self.front + y * self.pitch + x

    def mask(self, length: int) -> NDArray[np.int32]:
        """Return -1 for pixels and 0 for all else [length], from pixel (0, 0) of a plane on."""
        place = np.arange(length)
        inside = (place % self.pitch < self.width) & (place < self.cover)
        return -inside.astype(np.int32)

    def view(self, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the pixels of a buffer [size] as [images, channels, height, width], without a copy."""
        start = buffer[self.front :]
        strides = tuple(4 * step for step in (self.image, self.plane, self.pitch, 1))
        return np.lib.stride_tricks.as_strided(
            start, (self.images, self.channels, self.height, self.width), strides
        )


@dataclass
class _Grid:
    images: int
    channels: int
    height: int
    width: int
    columns: int = 0
    above: tuple[int, int] = (0, 0)  # rows and columns
    below: tuple[int, int] = (0, 0)


class Grids:
    """The layouts of all buffers, found together: those that a kernel runs through in step share their pitch."""

    def __init__(self) -> None:
        self._grids: dict[str, _Grid] = {}
        self._leader: dict[str, str] = {}

    def add(self, name: str, images: int, channels: int, height: int, width: int) -> None:
        """Announce a buffer of images."""
        self._grids[name] = _Grid(images, channels, height, width)
        self._leader[name] = name

    def join(self, one: str, other: str) -> None:
        """Give two buffers the same pitch."""
        self._leader[self._find(one)] = self._find(other)

    def need(self, name: str, *, above: int, left: int, below: int, right: int, past: int = 0) -> None:
        """Ask for zeros around the pixels of a buffer: so many rows and columns are read beyond its borders.

        Args:
            past: numbers that are read, but not used, beyond the end of the last row that is needed, pads included.
        """
        grid = self._grids[name]
        grid.columns = max(grid.columns, left, right)
        grid.above = max(grid.above[0], above), max(grid.above[1], left)
        grid.below = max(grid.below[0], below), max(grid.below[1], right, past)

    def solve(self) -> dict[str, Planes]:
        """Return the layout of every buffer."""
        pitch: dict[str, int] = {}
        for name, grid in self._grids.items():
            leader = self._find(name)
            pitch[leader] = max(pitch.get(leader, 1), grid.width + grid.columns)
        layouts = {}
        for name, grid in self._grids.items():
            step = pitch[self._find(name)]
            gap = max(rows * step + columns for rows, columns in (grid.above, grid.below))
            layouts[name] = Planes(grid.images, grid.channels, grid.height, grid.width, step, gap)
        return layouts

    def _find(self, name: str) -> str:
        while (leader := self._leader[name]) != name:
            name = leader
        return name
