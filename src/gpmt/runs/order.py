"""Runs in the order that a user asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gpmt.errors import GpmtError
from gpmt.runs.found import Found, GridSummary
from gpmt.suggestions import did_you_mean


def _done(found: Found) -> int | None:
    """Return the epochs of a run, or the runs of a sweep, that are finished."""
    return found.finished if isinstance(found, GridSummary) else found.epochs


_KEYS: dict[str, tuple[Callable[[Found], Any], bool]] = {
    "name": (lambda found: str(found.path), False),
    "when": (lambda found: found.when or None, True),
    "state": (lambda found: found.state, False),
    "sparsity": (lambda found: found.sparsity, False),
    "top1": (lambda found: found.top1, True),
    "time": (lambda found: found.seconds, False),
    "epochs": (_done, True),
}
"""What each key compares, and whether the largest come first."""
KEYS = tuple(_KEYS)


def ordered(runs: Iterable[Found], key: str, *, reverse: bool = False) -> list[Found]:
    """Sort runs by one of `KEYS`, newest and best first, with `reverse` last; those without a value end the list.

    Raises:
        GpmtError: there is no such key.
    """
    if key not in _KEYS:
        raise GpmtError(f"--sort is {key}, which is not known; {did_you_mean(key, KEYS)}")
    value, falling = _KEYS[key]
    named = sorted(runs, key=lambda found: str(found.path))
    known = [found for found in named if value(found) is not None]
    unknown = [found for found in named if value(found) is None]
    return sorted(known, key=value, reverse=falling != reverse) + unknown
