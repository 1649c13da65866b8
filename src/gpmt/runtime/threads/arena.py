"""Memory for activations and weights: in huge pages where the system has them, which cost fewer TLB misses."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import round_up
from gpmt.errors import RuntimeProgramError

ALIGNMENT = 64  # bytes, a cache line
_HUGE = 2 << 20


class Arena:
    """One block of memory, zero at first, that blocks are allocated from.

    Args:
        size: bytes, as `arena_size` returns them.

    Attributes:
        size: bytes.
        address: of the first block.

    Raises:
        RuntimeProgramError: there is not enough memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        length = round_up(max(size, 1), mmap.PAGESIZE) + _HUGE
        try:
            self._map = _anonymous(length)
        except (OSError, ValueError, OverflowError) as error:
            raise RuntimeProgramError(
                f"the runtime needs {size / 2**20:,.0f} MiB of memory, which the system does not give ({error}); "
                "compile for a smaller batch"
            ) from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = np.frombuffer(self._map, np.uint8)
        start = int(self._bytes.ctypes.data)
        self._next = round_up(start, _HUGE)
        self._end = start + length
        self._start = start
        self.address = self._next

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes and return their address, aligned to a cache line."""
        address = self._next
        self._next += round_up(size, ALIGNMENT)
        assert self._next <= self._end, "the arena was made too small"
        return address

    def store(self, array: NDArray[np.generic]) -> int:
        """Copy an array and return the address of the copy."""
        address = self.allocate(array.nbytes)
        self.bytes(address, array.nbytes)[:] = array.reshape(-1).view(np.uint8)
        return address

    def bytes(self, address: int, size: int) -> NDArray[np.uint8]:
        """Return `size` bytes of memory at an address, without a copy."""
        return self._bytes[address - self._start : address - self._start + size]

    def floats(self, address: int, count: int) -> NDArray[np.float32]:
        """Return `count` float32 values at an address, without a copy."""
        return self.bytes(address, 4 * count).view(np.float32)


def _anonymous(length: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, length)
    # Private, so that a child after fork gets a copy.
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def arena_size(sizes: Iterable[int]) -> int:
    """Return the bytes of an arena that blocks of these sizes fit in."""
    return sum(round_up(size, ALIGNMENT) for size in sizes)


@contextmanager
def memory_errors_as_runtime_errors() -> Iterator[None]:
    """Raise a `RuntimeProgramError` in place of a `MemoryError`."""
    try:
        yield
    except MemoryError as error:
        raise RuntimeProgramError(
            f"the runtime needs more memory, which the system does not give ({error}); compile for a smaller batch"
        ) from error
