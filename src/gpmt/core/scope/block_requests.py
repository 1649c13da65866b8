"""How a user wants tensors to be divided into blocks: patterns, the first match wins."""

from __future__ import annotations

from collections.abc import Mapping

from gpmt.core.blocks.blocks import WHOLE, BlockRule, Blocks, Split
from gpmt.core.layers.layers import output_dim
from gpmt.core.patterns import shown
from gpmt.core.scope.candidates import Candidate
from gpmt.core.scope.choice import match_candidates
from gpmt.errors import ScopeError


def requested(
    candidates: list[Candidate], chosen: list[Candidate], rules: Mapping[str, BlockRule], typed: bool
) -> dict[str, Blocks]:
    """Return how the chosen tensors are divided that a pattern matches, by name; one block is `WHOLE`.

    Args:
        candidates: all tensors of the network.
        chosen: those in scope.
        rules: pattern -> the division.
        typed: whether the classes of layers are known.

    Raises:
        ScopeError: a pattern matches nothing in the scope, or a division is of another type or does not fit a tensor.
    """
    if not isinstance(rules, Mapping):
        raise ScopeError(
            f"blocks is of type {type(rules).__name__}, but must be a mapping from patterns to divisions, such as "
            '{"*.qkv.weight": ("q", "k", "v")}'
        )
    found: dict[str, Blocks] = {}
    by_identity = {id(candidate) for candidate in chosen}
    for pattern, rule in rules.items():
        matched = match_candidates(candidates, pattern, "blocks", typed)
        if not any(id(candidates[index]) in by_identity for index in matched):
            names = [candidates[index].name for index in sorted(matched)]
            raise ScopeError(
                f"blocks pattern {shown(pattern)} matches only tensors outside the scope, such as {names[0]}; take "
                "it into the scope, or leave the pattern out"
            )
        for index in sorted(matched):
            candidate = candidates[index]
            if id(candidate) in by_identity and candidate.name not in found:
                found[candidate.name] = _blocks(candidate, rule, pattern)
    return found


def _blocks(candidate: Candidate, rule: object, pattern: str) -> Blocks:
    """Return the division of one tensor as a rule says."""
    if rule is None:
        return WHOLE
    if isinstance(rule, Split):
        rule = Blocks((rule,))
    try:
        if not isinstance(rule, Blocks):
            rule = Blocks((_equal(candidate, rule),))
        rule.check(candidate.tensor, candidate.name)
    except ScopeError as error:
        shape = "×".join(map(str, candidate.tensor.shape))
        raise ScopeError(
            f"blocks pattern {shown(pattern)} does not fit {candidate.name} of shape {shape}: {error}"
        ) from None
    return rule


def _equal(candidate: Candidate, rule: object) -> Split:
    """Return equal parts of the outputs: one for each label, or as many as a number says."""
    dim = output_dim(candidate.kind)
    length = candidate.tensor.shape[dim]
    if isinstance(rule, int) and not isinstance(rule, bool):
        return Split.equal(dim, length, rule)
    if isinstance(rule, list | tuple) and rule and all(isinstance(label, str) for label in rule):
        if len(set(rule)) < len(rule):
            raise ScopeError(f"the labels {rule!r} are not all different")
        return Split.equal(dim, length, rule)
    raise ScopeError(
        f"a division must be labels of equal parts, their number, a Split, Blocks or None, not {rule!r}"
    )
