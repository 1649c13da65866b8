"""JSON and YAML that runs and tools have written, read leniently: what is missing or of another type is not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpmt.errors import ReportError
from gpmt.extras import import_extra
from gpmt.runs.files import Damaged, count, number, read_json, read_yaml


class Document:
    """An object of a document; `values` has all that is in it.

    Each method returns the value of a key, and None or nothing where it is not there or of another type.

    >>> found = Document({"kept": 3, "name": "conv", "plan": {"groups": [{"kept": 2}]}})
    >>> found.count("kept"), found.count("name"), found.object("plan").rows("groups")[0].count("kept")
    (3, None, 2)
    """

    def __init__(self, values: Any) -> None:
        self.values: dict[str, Any] = (
            {str(key): value for key, value in values.items()} if isinstance(values, Mapping) else {}
        )

    def __bool__(self) -> bool:
        return bool(self.values)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def object(self, key: str) -> Document:
        """Return an object, empty where there is none."""
        return Document(self.values.get(key))

    def rows(self, key: str) -> list[Document]:
        """Return the objects in a list."""
        return [Document(value) for value in self._list(key) if isinstance(value, Mapping)]

    def text(self, key: str) -> str:
        """Return a string, "" where there is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the strings in a list."""
        return tuple(value for value in self._list(key) if isinstance(value, str))

    def number(self, key: str) -> float | None:
        """Return a finite number."""
        return _number(self.values.get(key))

    def numbers(self, key: str) -> dict[str, float]:
        """Return the finite numbers in an object."""
        found = {name: _number(value) for name, value in self.object(key).values.items()}
        return {name: value for name, value in found.items() if value is not None}

    def count(self, key: str) -> int | None:
        """Return a whole number that is not negative."""
        return count(self.values.get(key))

    def counts(self, key: str) -> tuple[int, ...]:
        """Return the whole numbers in a list."""
        return tuple(value for value in self._list(key) if type(value) is int)

    def flag(self, key: str) -> bool | None:
        """Return true or false."""
        value = self.values.get(key)
        return value if isinstance(value, bool) else None

    def _list(self, key: str) -> list[Any]:
        value = self.values.get(key)
        return value if isinstance(value, list) else []


def read_document(path: Path, remedy: str) -> Document:
    """Read a file of JSON whose outermost value is an object.

    Raises `ReportError` for a file that cannot be read or is not that; `remedy` ends its sentence.
    """
    return _read(read_json, path, remedy)


def read_settings(path: Path, remedy: str) -> Document:
    """Read the settings in a file of YAML. Raises `ReportError` as `read_document` does, and without PyYAML."""
    import_extra("yaml", ReportError)
    return _read(read_yaml, path, remedy)


def _read(read: Callable[[Path], Mapping[str, Any]], path: Path, remedy: str) -> Document:
    try:
        return Document(read(path))
    except Damaged as damage:
        raise ReportError(f"{path}{str(damage).removeprefix(path.name)}; {remedy}") from None


def _number(value: Any) -> float | None:
    return None if isinstance(value, str) else number(value)
