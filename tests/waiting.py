"""Waiting for what another process does."""

import time
from collections.abc import Callable

DEADLINE_SECONDS = 600
"""Far more than anything waited for takes, also on a loaded machine."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds; fail if it does not in `DEADLINE_SECONDS`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < DEADLINE_SECONDS, "waited in vain"
        time.sleep(0.02)
