"""The fields of an object of JSON, each of the type it must have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gpmt.errors import PlanError


class Fields:
    """An object that must have exactly the fields named, separated by spaces; every error names the object.

    >>> Fields({"kept": 3}, "fc.weight", "kept").count("kept", 10)
    3
    """

    def __init__(self, values: Any, what: str, names: str) -> None:
        if not isinstance(values, dict):
            raise PlanError(f"{what} is {_shown(values)}, but must be an object")
        self.values: Mapping[str, Any] = values
        self.what = what
        wanted = names.split()
        if odd := [name for name in (*wanted, *values) if (name in values) != (name in wanted)]:
            state = "no" if odd[0] in wanted else "an unknown"
            raise PlanError(f"{what} has {state} field {odd[0][:40]!r}; a plan has {', '.join(wanted)} there")

    def text(self, name: str) -> str:
        """Return a string."""
        return str(self._typed(name, str, "a string"))

    def optional_text(self, name: str) -> str | None:
        """Return a string or None."""
        return None if self.values[name] is None else self.text(name)

    def optional_number(self, name: str) -> float | None:
        """Return a number or None."""
        value = self.values[name]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
            raise self._wrong(name, "a number or null")
        return float(value)

    def flag(self, name: str) -> bool:
        """Return a bool."""
        return bool(self._typed(name, bool, "true or false"))

    def count(self, name: str, largest: int) -> int:
        """Return a whole number from 0 on."""
        return self._count(name, self.values[name], largest)

    def whole(self, name: str) -> int:
        """Return a whole number of at most 64 bits, of either sign."""
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 63:
            raise self._wrong(name, "a whole number")
        return value

    def counts(self, name: str) -> list[int]:
        """Return whole numbers from 0 on."""
        return [self._count(name, value, 1 << 40) for value in self._typed(name, list, "a list")]

    def texts(self, name: str) -> list[str]:
        """Return strings."""
        values = self._typed(name, list, "a list")
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(name, "a list of strings")
        return list(values)

    def ratio(self, name: str) -> str:
        """Return an exact ratio, such as "9/10"."""
        value = self.text(name)
        if not re.fullmatch(r"\d{1,30}(/0*[1-9]\d{0,29})?", value):
            raise self._wrong(name, 'a ratio such as "9/10"')
        return value

    def object(self, name: str, names: str) -> Fields:
        """Return an object with these fields."""
        return Fields(self.values[name], f"{name} of {self.what}", names)

    def objects(self, name: str, names: str) -> list[Fields]:
        """Return a list of objects with these fields."""
        values = self._typed(name, list, "a list")
        return [Fields(value, f"{name}[{index}] of {self.what}", names) for index, value in enumerate(values)]

    def _count(self, name: str, value: Any, largest: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(name, "a whole number")
        if not 0 <= value <= largest:
            raise PlanError(f"{name} of {self.what} is {value:,}, but must be from 0 to {largest:,}")
        return value

    def _typed(self, name: str, kind: type, wanted: str) -> Any:
        value = self.values[name]
        if not isinstance(value, kind):
            raise self._wrong(name, wanted)
        return value

    def _wrong(self, name: str, wanted: str) -> PlanError:
        return PlanError(f"{name} of {self.what} is {_shown(self.values[name])}, but must be {wanted}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
