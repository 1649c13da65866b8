"""The methods by name, found in the files of this folder."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from typing import Any

from gpmt.errors import MethodError
from gpmt.pruner import methods
from gpmt.pruner.methods.method import Method
from gpmt.suggestions import did_you_mean


@cache
def methods_by_name() -> dict[str, type[Method]]:
    """Return the class of every method by its name, in the order of the names."""
    for module in pkgutil.iter_modules(methods.__path__):
        import_module(f"{methods.__name__}.{module.name}")
    found: dict[str, type[Method]] = {}
    queue = list(Method.__subclasses__())
    while queue:
        kind = queue.pop()
        queue += kind.__subclasses__()
        if kind.__module__.startswith(methods.__name__) and "name" in vars(kind):
            found[kind.name] = kind
    return dict(sorted(found.items()))


def method_of(given: object, **settings: Any) -> Method:
    """Return a method that is given as such, or by its name with settings of its own.

    A name such as "rigl+ham" is the method "ham" around the method "rigl"; the settings are those of the outer one,
    and a mapping `inner` holds those of the other.

    Raises `MethodError` for anything else, for a name that is not known, and for settings that it does not have.

    >>> method_of("hard")
    Hard()
    """
    if isinstance(given, Method):
        return given
    known = methods_by_name()
    if not isinstance(given, str):
        raise MethodError(f"method is {given!r}, but must be a name, such as 'hard', or a gpmt.Method")
    inside, _, outer = given.rpartition("+")
    if outer not in known:
        raise MethodError(f"method is {given!r}, which is not known; {did_you_mean(outer, known)}")
    kind: Any = known[outer]
    names = [field.name for field in fields(kind)]
    if inside:
        if "inner" not in names:
            raise MethodError(
                f"method is {given!r}, but {outer} is no method around another; leave out +{outer}"
            )
        settings = {**settings, "inner": _inner(inside, settings.get("inner", {}), given)}
    if odd := sorted(settings.keys() - set(names)):
        has = f"its settings are {', '.join(names)}" if names else "it has none"
        raise MethodError(f"{odd[0]} is not a setting of the method {given}; {has}")
    method: Method = kind(**settings)
    return method


def _inner(name: str, settings: object, given: str) -> Method:
    """Return the method inside another, given by its name and a mapping of settings."""
    if not isinstance(settings, Mapping):
        raise MethodError(
            f"inner is {settings!r}, but must be a mapping of the settings of {name}, since the method is {given!r}"
        )
    return method_of(name, **settings)
