"""The machine that this process runs on: its memory, its cores and its processor's name."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

_CONTAINER = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit() -> int:
    """Return the memory limit of this process in bytes: the minimum of the machine's, its container's and its own.

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


def core_count() -> int:
    """Return how many cores this process may use.

    >>> core_count() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Return the name of the processor, or its architecture where the name is not known."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
