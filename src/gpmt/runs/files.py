"""Files of runs read with care: what is missing or damaged is said in a sentence, and never raised."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gpmt.errors import first_line

_T = TypeVar("_T")
_MAX_BYTES = 1 << 28


class Damaged(Exception):
    """A file that is not what it should be; the text is a sentence that names it."""


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the object in a JSON file; raise `Damaged` for anything else."""
    return _mapping(path, _read(path, json.loads))


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Return the mapping in a YAML file, read as data; raise `Damaged` for anything else."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _mapping(path, _read(path, lambda text: yaml.load(text, Loader=loader)))
    except yaml.YAMLError as error:
        raise Damaged(f"{path.name} is not valid YAML: {first_line(error)}") from None


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; an empty list if the file does not exist."""
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(_read(path, str.splitlines)))
    except csv.Error as error:
        raise Damaged(f"{path.name} is damaged: {error}") from None
    if any(None in row or None in row.values() for row in rows):
        raise Damaged(f"{path.name} is damaged: its lines have not all the same number of values")
    return rows


def section(document: Any, *keys: str) -> Mapping[str, Any]:
    """Return a mapping inside of others; an empty one where there is none."""
    for key in keys:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document if isinstance(document, Mapping) else {}


def number(value: Any) -> float | None:
    """Return a finite number, also from the text of one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: Any) -> int | None:
    """Return a whole number of at least 0, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def text(value: Any) -> str:
    """Return a value in one line without control characters, "" for None."""
    if value is None:
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def _read(path: Path, parse: Callable[[str], _T]) -> _T:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Damaged(f"{path.name} has {path.stat().st_size:,} bytes, which is more than a run writes")
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Damaged(f"{path.name} is damaged: {text(reason)}") from None


def _mapping(path: Path, document: Any) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise Damaged(f"{path.name} is damaged: it holds a {type(document).__name__} in place of an object")
    return document
