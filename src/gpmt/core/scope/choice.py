"""Which candidates the patterns of a user choose, and what is said where they choose none."""

from __future__ import annotations

from gpmt.core.layers.reach import Reach
from gpmt.core.layers.roles import Role
from gpmt.core.patterns import Pattern, matcher, names_type, shown
from gpmt.core.scope.candidates import Candidate
from gpmt.errors import ScopeError
from gpmt.suggestions import close_names


def select(candidates: list[Candidate], pattern: Pattern, typed: bool) -> set[int]:
    """Indices of the candidates that a pattern of `scope` asks for directly enough."""
    matched = match_candidates(candidates, pattern, "scope", typed)
    selected = {i for i, reach in matched.items() if reach >= candidates[i].needs}
    # What matches no layer that is known can only mean the others.
    selected = selected or {i for i in matched if candidates[i].needs == Reach.TENSOR}
    if selected:
        return selected
    # Tell what would be needed to have the most nearly prunable of the tensors that it does match.
    nearest = min((candidates[i] for i in matched), key=lambda c: c.needs)
    name = nearest.name
    why = f"tensors such as {name!r}; biases, norms, vectors and integers are never pruned"
    if nearest.role is Role.HEAD:
        why = f"the output head {name!r}; give its own name"
    elif nearest.needs == Reach.LAYER:
        why = f"embeddings such as {name!r}; give an embedding's own name or its type"
    raise ScopeError(f"scope pattern {shown(pattern)} matches only {why}")


def match_candidates(
    candidates: list[Candidate], pattern: Pattern, role: str, typed: bool
) -> dict[int, Reach]:
    """Index of each candidate that a pattern matches under any of its names -> how directly; never empty."""
    reach_of = matcher(pattern, role, typed)
    reaches = {
        i: max(
            reach_of(name, owner)
            for names in (c.names, c.weights)
            for name, owner in zip(names, c.owners, strict=False)
        )
        for i, c in enumerate(candidates)
    }
    if matched := {i: reach for i, reach in reaches.items() if reach > Reach.NONE}:
        return matched
    raise ScopeError(f"{role} pattern {shown(pattern)} matches nothing; {_close_names(candidates, pattern)}")


def _close_names(candidates: list[Candidate], pattern: Pattern) -> str:
    """List the names closest to a pattern that matches nothing."""
    if names_type(pattern):
        wanted = pattern.__name__ if isinstance(pattern, type) else pattern.removeprefix("type:")
        known = [type(owner).__name__ for c in candidates for owner in c.owners]
    else:
        wanted = str(pattern).removeprefix("re:")
        names = [name for c in candidates for name in c.names]
        modules = [
            ".".join(parts[:i]) for parts in (n.split(".") for n in names) for i in range(1, len(parts))
        ]
        known = names + modules
    known = list(dict.fromkeys(known))
    classes = {type(owner).__name__ for c in candidates for owner in c.owners if owner is not None}
    if wanted == pattern and wanted in classes:
        return f"for the layers of this class give 'type:{wanted}'"
    if close := close_names(wanted, known):
        return "close names are " + ", ".join(close)
    return "names here are " + ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
