"""Times as text."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Format a time for reading, in the unit that fits it.

    >>> [duration(seconds) for seconds in (0.42, 9.96, 23.4, 840, 9000)]
    ['0.4 s', '10 s', '23 s', '14 min', '2.5 h']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
