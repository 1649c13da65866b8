"""JSON as the files have it: a mapping in which a key is there twice is an error, and so are NaN and infinity."""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str) -> Any:
    """Parse JSON. Raises `ValueError` for what is not valid, and `RecursionError` for what is nested too deeply.

    >>> read_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ...
    ValueError: 'a' is there twice
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:40]!r} is there twice")
        found[name] = value
    return found


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")
