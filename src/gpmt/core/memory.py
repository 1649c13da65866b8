"""How much memory there is: what a file claims is held against it before anything is taken."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit() -> int:
    """Return the bytes that this process can have: of the machine, its container, and its own limit.

    >>> memory_limit() > 1 << 20
    True
    """
    limits = [1 << 62]
    with suppress(ValueError, OSError, AttributeError):  # not known on every system
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _CONTAINER:
        with suppress(ValueError, OSError):  # "max", or no container
            limits.append(int(Path(path).read_text()))
    with suppress(ImportError, ValueError):
        import resource

        own = resource.getrlimit(resource.RLIMIT_AS)[0]
        limits += [own] if own != resource.RLIM_INFINITY else []
    return min(limit for limit in limits if limit > 0)
