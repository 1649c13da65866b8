"""The layouts of all buffers of a network, found together."""

from __future__ import annotations

from dataclasses import dataclass

from gpmt.runtime.layout.planes import Planes


@dataclass
class _Buffer:
    """A buffer of images, and the zeros that kernels read around them, as far as known.

    Attributes:
        columns: zeros between a row and the next.
        before, behind: zeros before the first row of a plane and behind its last one, as (rows, columns).
    """

    images: int
    channels: int
    height: int
    width: int
    columns: int = 0
    before: tuple[int, int] = (0, 0)
    behind: tuple[int, int] = (0, 0)


class LayoutSolver:
    """Finds the smallest layouts that meet what kernels need: zeros around images, and equal pitches.

    >>> solver = LayoutSolver()
    >>> solver.add("x", 1, 3, 8, 8)
    >>> solver.add("y", 1, 16, 8, 8)
    >>> solver.share_pitch("x", "y")
    >>> solver.need_zeros("x", above=1, left=1, below=1, right=1)
    >>> solver.solve()["y"]
    Planes(images=1, channels=16, height=8, width=8, pitch=9, gap=0)
    """

    def __init__(self) -> None:
        self._buffers: dict[str, _Buffer] = {}
        # A forest: buffers with the same root have the same pitch.
        self._parent: dict[str, str] = {}

    def add(self, name: str, images: int, channels: int, height: int, width: int) -> None:
        """Add a buffer of images."""
        self._buffers[name] = _Buffer(images, channels, height, width)
        self._parent[name] = name

    def share_pitch(self, one: str, other: str) -> None:
        """Give two buffers the same pitch, for kernels that use one offset for both."""
        self._parent[self._root(one)] = self._root(other)

    def need_zeros(
        self, name: str, *, above: int, left: int, below: int, right: int, past_padding: int = 0
    ) -> None:
        """Ask for zeros around the images of a buffer: so many rows and columns are read beyond their borders.

        Args:
            past_padding: elements that are read, but not used, behind the padding of the last row that is needed.
        """
        buffer = self._buffers[name]
        buffer.columns = max(buffer.columns, left, right)
        buffer.before = max(buffer.before[0], above), max(buffer.before[1], left)
        buffer.behind = max(buffer.behind[0], below), max(buffer.behind[1], right, past_padding)

    def solve(self) -> dict[str, Planes]:
        """Return the layout of every buffer by name."""
        pitches: dict[str, int] = {}
        for name, buffer in self._buffers.items():
            root = self._root(name)
            pitches[root] = max(pitches.get(root, 1), buffer.width + buffer.columns)
        layouts = {}
        for name, buffer in self._buffers.items():
            pitch = pitches[self._root(name)]
            gap = max(rows * pitch + columns for rows, columns in (buffer.before, buffer.behind))
            layouts[name] = Planes(buffer.images, buffer.channels, buffer.height, buffer.width, pitch, gap)
        return layouts

    def _root(self, name: str) -> str:
        while (parent := self._parent[name]) != name:
            name = parent
        return name
