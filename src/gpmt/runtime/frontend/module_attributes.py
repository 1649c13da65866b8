"""What forward stores in a module's attributes, and how it is undone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def attributes_restored(module: nn.Module) -> Iterator[None]:
    """Undo what the body stores in a network, its lists and dicts: while it is recorded, tensors without data."""
    before: dict[int, tuple[Any, Any]] = {}
    for part in module.modules():
        _remember(part.__dict__, before)
    try:
        yield
    finally:
        for container, entries in before.values():
            _restore(container, entries)


_CONTAINERS = dict, list, set, deque


def _remember(container: Any, before: dict[int, tuple[Any, Any]]) -> None:
    """Remember what is in a container, and in containers inside it."""
    entries = dict(container) if isinstance(container, dict) else list(container)
    before[id(container)] = container, entries
    for value in entries.values() if isinstance(entries, dict) else entries:
        if isinstance(value, _CONTAINERS) and id(value) not in before:
            _remember(value, before)


def _restore(container: Any, entries: Any) -> None:
    if len(container) == len(entries) and (
        all(container.get(key, container) is value for key, value in entries.items())
        if isinstance(container, dict)
        else all(one is other for one, other in zip(container, entries, strict=True))
    ):
        return
    container.clear()
    if isinstance(container, dict | set):
        container.update(entries)
    else:
        container.extend(entries)
