"""Doctests in docstrings become blocks of code; Markdown would take their prompts for quotations."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_DOCTEST = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)


def fenced(text: str) -> str:
    """Return a docstring with a fence around each doctest; a doctest ends at an empty line."""

    def fence(found: re.Match[str]) -> str:
        indent = found["indent"]
        return f"\n{indent}```pycon\n{found[0]}\n{indent}```"

    return _DOCTEST.sub(fence, text)


class DoctestBlocks(Extension):
    """What mkdocstrings calls for every object that it reads."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring and not obj.is_alias:
            obj.docstring.value = fenced(obj.docstring.value)
