"""The table of rules: how each ATen operator passes signals on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpmt.reachability.signal import Call, Signal

Rule = Callable[[Call], Signal | Sequence[Signal]]

RULES: dict[str, Rule] = {}
"""By the names of operators; a rule returns the signal of the first result, or those of all."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register
