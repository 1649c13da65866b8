"""What a tensor is for, which decides how directly it must be asked for."""

from __future__ import annotations

from enum import Enum

from gpmt.core.layers.reach import Reach


class Role(Enum):
    """What a tensor is for; the value is its name in reports."""

    LAYER = "layer"
    EMBEDDING = "embedding"
    TIED = "tied to an embedding"
    HEAD = "output head"
    ROUTER = "router"
    ADAPTER = "adapter"
    OTHER = "unknown layer"
    NORM = "norm"
    NAMED_LIKE_NORM = "named like a norm"
    NO_WEIGHTS = "no weights"
    """A bias, a vector, integers, or a buffer: never pruned, and no part of what could be."""

    @property
    def needs(self) -> Reach:
        """How directly such a tensor must be asked for."""
        return _NEEDS.get(self, Reach.TENSOR)


_NEEDS = {
    Role.LAYER: Reach.BROAD,
    Role.EMBEDDING: Reach.LAYER,
    Role.TIED: Reach.LAYER,
    Role.HEAD: Reach.LAYER,
    Role.NORM: Reach.NEVER,
    Role.NO_WEIGHTS: Reach.NEVER,
}
_STRONGEST = (Role.EMBEDDING, Role.TIED, Role.HEAD)


def joined(roles: list[Role]) -> Role:
    """Return the role of one tensor under several names.

    What is tied to an embedding is one, and a head is a head under any name; otherwise the name that asks for least
    counts.

    >>> joined([Role.LAYER, Role.EMBEDDING]).value, joined([Role.OTHER, Role.LAYER]).value
    ('tied to an embedding', 'layer')
    """
    if len(roles) == 1:
        return roles[0]
    strong = next((role for role in _STRONGEST if role in roles), None)
    if strong is Role.EMBEDDING and roles[0] is not Role.EMBEDDING:
        return Role.TIED
    return strong or min(roles, key=lambda role: role.needs)
