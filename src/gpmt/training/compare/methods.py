"""The methods that ``gpmt compare`` knows: what each changes in a recipe, and how its budget is spent."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpmt.errors import RecipeError
from gpmt.suggestions import did_you_mean

FLOOR = "+MT"
"""What the name of a method with floors ends with."""


@dataclass(frozen=True)
class ComparedMethod:
    """One method.

    Attributes:
        name: as tables show it.
        prune: its settings in the section ``prune`` of a recipe; those that say when and how and are not here have
            their defaults.
        starts_dense: whether it prunes a trained network, so that a part of the budget is dense training.
        floors: whether it is compared with a minimum threshold as well.
    """

    name: str
    prune: Mapping[str, Any] = field(default_factory=dict)
    starts_dense: bool = True
    floors: bool = True


@dataclass(frozen=True)
class Row:
    """A method, with or without floors; `name` is unique, `floor` is the minimum as the recipe takes it, or None."""

    method: ComparedMethod
    floor: int | str | None

    @property
    def name(self) -> str:
        """The method's name, which ends with ``+MT`` where it has floors."""
        return self.method.name + (FLOOR if self.floor is not None else "")


METHODS = (
    ComparedMethod("GP"),
    ComparedMethod("uniform", {"allocation": "uniform"}),
    ComparedMethod("ERK", {"allocation": "erk"}),
    ComparedMethod("LAMP", {"allocation": "lamp"}),
    # The control: that no weight is better than another.
    ComparedMethod("random", {"allocation": "random"}, floors=False),
    ComparedMethod("gradual", {"schedule": "gradual"}, starts_dense=False),
    ComparedMethod("AC/DC", {"schedule": "ac-dc"}, starts_dense=False),
    ComparedMethod("AC/DC+HAM", {"schedule": "ac-dc", "method": "ham"}, starts_dense=False),
    ComparedMethod("ST-3", {"schedule": "gradual", "method": "st-3"}, starts_dense=False),
    ComparedMethod("Feather", {"schedule": "gradual", "method": "feather"}, starts_dense=False),
    # Sparse from the start, shared among the tensors as published.
    ComparedMethod("RigL", {"allocation": "erk", "method": "rigl"}, starts_dense=False),
)


def choose(names: Sequence[str] | None, floor: int | str | None) -> list[Row]:
    """Return the rows of the methods with these names, all of them if none are given, in the order of the table.

    A name stands for the method without floors and, where they have meaning, with them; ``NAME+MT`` for the latter
    alone. Case and punctuation do not matter. `floor` is the minimum; with None, or 0, there are no rows with floors.

    >>> [row.name for row in choose(["acdc", "gp+mt", "random"], "0.25%")]
    ['GP+MT', 'random', 'AC/DC', 'AC/DC+MT']

    Raises RecipeError for a name that is not known, and for floors that there are none of.
    """
    floor = floor or None
    if names is None:
        chosen = {(method.name, floors) for method in METHODS for floors in (False, True)}
    else:
        chosen = {pair for name in names for pair in _named(name, floor)}
    rows = [
        Row(method, floor if floors else None)
        for method in METHODS
        for floors in (False, True)
        if (method.name, floors) in chosen and (not floors or (method.floors and floor is not None))
    ]
    if not rows:
        raise RecipeError("--methods names no method; give some, such as GP,gradual")
    return rows


def _named(name: str, floor: int | str | None) -> list[tuple[str, bool]]:
    """Return which method a name means, and for each of its rows whether it has floors."""
    known = {_plain(method.name): method for method in METHODS}
    plain = _plain(name)
    only_floors = plain.endswith(_plain(FLOOR))
    method = known.get(plain.removesuffix(_plain(FLOOR)))
    if method is None:
        raise RecipeError(
            f"method {name.strip()!r} is not known; {did_you_mean(name.strip(), [m.name for m in METHODS])}"
        )
    if not only_floors:
        return [(method.name, False), (method.name, True)]
    if not method.floors:
        raise RecipeError(f"{method.name} is compared without floors only; give {method.name}")
    if floor is None:
        raise RecipeError(
            f"{method.name}{FLOOR} is asked for, but --min-kept is none; give a floor, such as 0.05% or auto"
        )
    return [(method.name, True)]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", name.lower())
