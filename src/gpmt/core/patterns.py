"""The patterns that choose tensors: names, globs, regular expressions and types of layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from gpmt.core.layers.layers import EMBEDDINGS, KNOWN
from gpmt.core.layers.reach import Reach
from gpmt.errors import ScopeError

Pattern = str | type[nn.Module]
Patterns = Pattern | Sequence[Pattern]


def listed(patterns: Patterns | None) -> Iterable[Pattern]:
    """One pattern, several or none, as several."""
    if patterns is None:
        return []
    if isinstance(patterns, (str, type)) or not isinstance(patterns, Iterable):
        return [patterns]
    return patterns


def matcher(pattern: Pattern, role: str, typed: bool) -> Callable[[str, nn.Module | None], Reach]:
    """How directly a pattern points at a tensor, given one of its names and the owner of that name."""
    if names_type(pattern):
        if not typed:
            raise ScopeError(
                f"{role} pattern {shown(pattern)} needs a model: a state_dict knows no types; use names"
            )
        return lambda _, owner: _reach_by_type(pattern, owner)
    if not isinstance(pattern, str) or not pattern:
        raise ScopeError(
            f"{role} pattern {pattern!r} is not valid; give the name of a tensor or module, a glob, "
            "'re:REGEX', 'type:CLASS' or a subclass of nn.Module"
        )
    if pattern.startswith("re:"):
        try:
            regex = re.compile(pattern.removeprefix("re:"))
        except re.error as error:
            raise ScopeError(
                f"{role} pattern {pattern!r} is not a valid regular expression: {error}"
            ) from None
        return lambda name, _: Reach.BROAD if regex.search(name) else Reach.NONE
    return lambda name, _: _reach_by_name(pattern, name)


def _reach_by_type(pattern: Pattern, owner: nn.Module | None) -> Reach:
    ancestors = [a for a in type(owner).__mro__ if pattern in (a, f"type:{a.__name__}")]
    if any(issubclass(a, EMBEDDINGS) for a in ancestors):
        return Reach.LAYER
    if not isinstance(owner, KNOWN) and not all(_says_little(a) for a in ancestors):
        return Reach.TENSOR
    return Reach.BROAD if ancestors else Reach.NONE


def _says_little(ancestor: type) -> bool:
    """Whether a class is one of PyTorch's that many modules derive from, such as `Module` and `Sequential`."""
    lists = (nn.ParameterList, nn.ParameterDict)
    return ancestor.__module__.partition(".")[0] == "torch" and ancestor not in lists


def _reach_by_name(pattern: str, name: str) -> Reach:
    layer, _, own = name.rpartition(".")
    # "*.W1" can only mean these parameters, while "*.weight" says nothing about the layers it means.
    spelled = own != "weight" and pattern.endswith(f".{own}") and fnmatchcase(name, pattern)
    if pattern == name or spelled:
        return Reach.TENSOR
    if pattern == layer:
        return Reach.LAYER
    if name.startswith(f"{pattern}.") or fnmatchcase(name, pattern) or fnmatchcase(layer, pattern):
        return Reach.BROAD
    return Reach.NONE


def names_type(pattern: object) -> bool:
    """Whether a pattern is a type of layer, or the name of one."""
    if isinstance(pattern, str):
        return pattern.startswith("type:")
    return isinstance(pattern, type) and issubclass(pattern, nn.Module)


def shown(pattern: Pattern) -> str:
    """A pattern as an error shows it."""
    return pattern.__name__ if isinstance(pattern, type) else repr(pattern)
