"""How much of a network's weights a scope holds, and what lies outside of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_SHOWN = 3
EXCLUDED = "excluded"
NOT_ASKED = "not in scope="


@dataclass(frozen=True)
class Outside:
    """A tensor of two or more dimensions that is not in the scope.

    Attributes:
        name: its first name.
        numel: its weights.
        reason: why it is outside: `"embedding"`, `"tied to an embedding"`, `"output head"`, `"router"`, `"adapter"`,
            `"norm"`, `"named like a norm"`, `"unknown layer"`, `"excluded"` or `"not in scope="`.
        by_name: whether its own name in `scope=` would bring it in.
    """

    name: str
    numel: int
    reason: str
    by_name: bool = True


@dataclass(frozen=True)
class Coverage:
    """The weights of two or more dimensions of a network, in a scope and outside of it; tied tensors count once.

    Integers, biases and what has one dimension do not count. `str()` is a line for the scope, one for what is
    outside, and one that says how to bring it in.

    Attributes:
        inside: weights in the scope.
        outside: the other tensors, the largest first.

    >>> print(Coverage(46_700, (Outside("embed.weight", 131_000, "embedding"),)))
    scope: 46.7 k of 178 k weights (26.3 %)
    outside: embed.weight 131 k (embedding)
    to prune such a tensor too, name it, as in scope=["*", "embed.weight"]
    """

    inside: int
    outside: tuple[Outside, ...] = ()

    @property
    def total(self) -> int:
        """Weights of the whole network."""
        return self.inside + sum(row.numel for row in self.outside)

    @property
    def share(self) -> float:
        """The fraction of the network's weights that the scope holds."""
        return self.inside / self.total if self.total else 1.0

    @property
    def complete(self) -> bool:
        """Whether nothing lies outside."""
        return not self.outside

    def whole_sparsity(self, pruned: int) -> float:
        """Return the sparsity of the whole network where so many weights of the scope are zero, and none outside."""
        return pruned / self.total if self.total else 0.0

    def lines(self, *, options: bool = False) -> list[str]:
        """Return the text, line by line; with `options` it names those of the command line."""
        total = f"scope: {_short(self.inside)} of {_short(self.total)} weights ({100 * self.share:.3g} %)"
        if self.complete:
            return [total]
        groups = _folded(self.outside)
        shown = [f"{name} {_short(numel)} ({reason})" for name, numel, reason in groups[:_SHOWN]]
        if len(groups) > _SHOWN:
            rest = _short(sum(numel for _, numel, _ in groups[_SHOWN:]))
            shown.append(f"{len(groups) - _SHOWN:,} more {rest}")
        lines = [total, f"outside: {', '.join(shown)}"]
        left = next(
            (row for row in self.outside if row.by_name and row.reason not in (EXCLUDED, NOT_ASKED)), None
        )
        if left is not None:
            how = f"--scope '*' --scope {left.name}" if options else f'scope=["*", "{left.name}"]'
            lines.append(f"to prune such a tensor too, name it, as in {how}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Return the coverage as plain values, ready for JSON."""
        return {
            "weights": self.inside,
            "network_weights": self.total,
            "share": self.share,
            "outside": [
                {"name": row.name, "weights": row.numel, "reason": row.reason} for row in self.outside
            ],
        }


def sorted_by_size(rows: Iterable[Outside]) -> tuple[Outside, ...]:
    """Return the rows, the largest first; those of one size keep their order."""
    return tuple(sorted(rows, key=lambda row: -row.numel))


def _folded(rows: Sequence[Outside]) -> list[tuple[str, int, str]]:
    """Join tensors whose names differ in numbers only, such as the routers of all layers; the largest sum first."""
    members: dict[tuple[str, str], list[Outside]] = {}
    for row in rows:
        members.setdefault((re.sub(r"(?<![^.])\d+(?![^.])", "*", row.name), row.reason), []).append(row)
    groups = [
        (
            found[0].name if len(found) == 1 else f"{len(found):,} × {name}",
            sum(row.numel for row in found),
            reason,
        )
        for (name, reason), found in members.items()
    ]
    return sorted(groups, key=lambda group: -group[1])


def _short(count: int) -> str:
    """Return a count in three digits.

    >>> _short(999), _short(46_720_000), _short(131_072_000)
    ('999', '46.7 M', '131 M')
    """
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 0.9995 * size:
            return f"{count / size:.{max(0, 3 - len(str(round(count / size))))}f} {unit}"
    return str(count)
