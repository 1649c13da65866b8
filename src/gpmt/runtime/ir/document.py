"""Plain data of a saved program, checked while it is read; each error names what was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MAX_SIZE = 1 << 40  # of a dimension, stride, ...


class DocumentError(ValueError):
    """A document that is not valid; the reader of the file adds its name."""


def read_table(value: object, what: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return a table with exactly these keys."""
    if not isinstance(value, dict) or value.keys() != {*keys}:
        raise DocumentError(f"has a {what} that does not consist of {', '.join(keys)}")
    return value


def read_list(value: object, what: str) -> list[Any]:
    """Return a list."""
    if not isinstance(value, list):
        raise DocumentError(f"has {shorten(value)} for its {what}, not a list")
    return value


def read_text(value: object, what: str) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise DocumentError(f"has {shorten(value)} for a {what}, not a text")
    return value


def read_integer(value: object, what: str, least: int = 1) -> int:
    """Return an integer from `least` up."""
    if type(value) is not int or not least <= value < _MAX_SIZE:
        raise DocumentError(f"has {shorten(value)} for a {what}")
    return value


def read_flag(value: object, what: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise DocumentError(f"has {shorten(value)} for {what}, not true or false")
    return value


def shorten(value: object) -> str:
    """Return a value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
