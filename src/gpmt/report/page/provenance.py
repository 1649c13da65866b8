"""How something was made: settings, versions and the machine, as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpmt.report.page.picture import Table


def settings(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield all settings of a nested recipe with their whole names.

    >>> list(settings({"seed": 0, "prune": {"sparsity": 0.9, "exclude": []}}))
    [('seed', '0'), ('prune.sparsity', '0.9'), ('prune.exclude', '[]')]
    """
    for key, value in recipe.items():
        if isinstance(value, Mapping) and value:
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_plain, value))}]"
    return str(value)


def recipe_table(recipe: Mapping[str, Any]) -> Table | None:
    """Return every setting of a recipe, None where there is none."""
    rows = [list(row) for row in settings(recipe)]
    return Table(["setting", "value"], rows, words=(0, 1)) if rows else None


def made_with(versions: Mapping[str, str], machine: Mapping[str, Any]) -> Table | None:
    """Return versions and machine, None where neither is known."""
    rows = [[name, _plain(value)] for name, value in (*versions.items(), *settings(machine))]
    return Table(["", ""], rows, words=(0, 1)) if rows else None
