"""Memory that machine code runs from: written first, then made executable, never both at once.

On aarch64 a core's instruction cache does not see what is written, so it is flushed in between. macOS would need
MAP_JIT and pthread_jit_write_protect_np; that was not tried, and the loops serve there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gpmt.arithmetic import round_up

_ALIGN = 64
_HUGE = 2 << 20
_LIBGCC, _CLEAR = "libgcc_s.so.1", "__clear_cache"


class ExecutableMemoryError(Exception):
    """The system does not let a program run code that it has written; the message says what it answered."""


class ExecutableMemory:
    """Blocks of position-independent code, copied into one stretch of memory that can then be run, but not written.

    Args:
        blocks: uint8 arrays; each begins at a multiple of 64 bytes.

    Attributes:
        addresses: of the blocks, in their order; they are valid as long as this object lives.
        size: bytes of all blocks.

    Raises:
        ExecutableMemoryError: the system refuses.
    """

    def __init__(self, blocks: Sequence[NDArray[np.uint8]]) -> None:
        starts = np.cumsum([0, *(round_up(len(block), _ALIGN) for block in blocks)])
        self.size = int(starts[-1])
        if sys.platform != "linux":
            raise ExecutableMemoryError(f"not implemented on {sys.platform}")
        length = round_up(max(self.size, 1), _HUGE) + _HUGE
        try:
            # Private, so that a child after fork has it as well.
            self._map = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise ExecutableMemoryError(f"{length:,} bytes of memory: {error.strerror}") from error
        with suppress(OSError):  # a kernel without huge pages, which cost fewer TLB misses
            self._map.madvise(mmap.MADV_HUGEPAGE)
        content = np.frombuffer(self._map, np.uint8)
        begin = int(content.ctypes.data)
        first = round_up(begin, _HUGE)
        for start, block in zip(starts, blocks, strict=False):
            content[first - begin + start : first - begin + start + len(block)] = block
        if platform.machine() == "aarch64":
            _flush(begin, length)
        _protect(begin, length)
        self.addresses = [int(first + start) for start in starts[:-1]]


def refusal() -> str | None:
    """Return why this process cannot run code that it writes, None where it can."""
    try:
        _probe()
    except ExecutableMemoryError as error:
        return str(error)
    return None


@cache
def _probe() -> None:
    ExecutableMemory([np.zeros(1, np.uint8)])


def _flush(address: int, length: int) -> None:
    """Make the instruction caches of all cores forget what was in memory before."""
    try:
        clear = ctypes.CDLL(_LIBGCC)[_CLEAR]
    except (OSError, AttributeError) as error:
        raise ExecutableMemoryError(f"no way to flush the instruction cache: {error}") from error
    clear(ctypes.c_void_p(address), ctypes.c_void_p(address + length))


def _protect(address: int, length: int) -> None:
    """Make memory readable and executable."""
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if mprotect(address, length, mmap.PROT_READ | mmap.PROT_EXEC):
        raise ExecutableMemoryError(f"mprotect: {os.strerror(ctypes.get_errno())}")
