"""Patterns that divide the blocks of a network: the first one that matches a block decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from gpmt.core.layers.reach import Reach
from gpmt.core.patterns import matcher, shown
from gpmt.errors import BudgetError
from gpmt.suggestions import close_names


class Named(NamedTuple):
    """What patterns know of a block: its name, its tensor's names, and the class of its layer."""

    block: str
    tensors: tuple[str, ...]
    kind: str


def first_matches(patterns: Sequence[str | None], blocks: Sequence[Named], *, role: str) -> list[int | None]:
    """Return for each block the index of the first pattern that matches it, or None.

    Args:
        patterns: names and globs of tensors, layers and blocks, `re:REGEX`, `type:CLASS`; None matches everything.
        blocks: what is to be matched.
        role: the option that the patterns come from, for errors.

    Raises:
        BudgetError: a pattern that matches nothing, or whose blocks all belong to earlier patterns.
        ScopeError: a pattern that is malformed.

    >>> first_matches(["a.*", None], [Named("a.weight", ("a.weight",), "Linear"), Named("b", ("b",), "")], role="x")
    [0, 1]
    """
    found: list[int | None] = [None] * len(blocks)
    for index, pattern in enumerate(patterns):
        matched = [place for place, block in enumerate(blocks) if _matches(pattern, block, role)]
        if not matched:
            assert pattern is not None
            names = list(dict.fromkeys(name for block in blocks for name in (block.block, *block.tensors)))
            close = close_names(pattern, names)
            hint = (
                f"close names are {', '.join(close)}"
                if close
                else f"names here are {', '.join(names[:3])}, ..."
            )
            raise BudgetError(f"the pattern {shown(pattern)} of {role} matches nothing to prune; {hint}")
        free = [place for place in matched if found[place] is None]
        if not free:
            raise BudgetError(
                f"the pattern {pattern!r} of {role} matches only what belongs to earlier patterns, such as "
                f"{blocks[matched[0]].block}; put it before them, or leave it out"
            )
        for place in free:
            found[place] = index
    return found


def _matches(pattern: str | None, block: Named, role: str) -> bool:
    if pattern is None or pattern == "*":
        return True
    if isinstance(pattern, str) and pattern.startswith("type:"):
        return pattern == f"type:{block.kind}"
    if isinstance(pattern, str) and pattern:
        # In the name of a block brackets are brackets, as in "experts.gate_up_proj[17].up" and "*[*].up".
        literal = re.sub(r"\[(\d+|\*)\]", r"[[]\1[]]", pattern)
        if fnmatchcase(block.block, literal):
            return True
    reach_of = matcher(pattern, role, False)
    return any(reach_of(name, None) > Reach.NONE for name in block.tensors)
