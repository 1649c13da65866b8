"""How directly a tensor has to be asked for to be pruned."""

from __future__ import annotations

from enum import IntEnum


class Reach(IntEnum):
    """How directly a pattern points at a tensor, or how directly one must be asked for."""

    NONE = 0
    BROAD = 1  # a glob, a regex, a containing module, a type
    LAYER = 2  # the name of the owning layer, or the type of an embedding
    TENSOR = 3  # the exact name, a glob that ends in the tensor's own name, or the class of an unknown layer
    NEVER = 4  # no pattern reaches this far
