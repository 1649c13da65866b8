"""The blocks of a tensor, by the modules that hold it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from gpmt.core.blocks.block_rules import RULES, Rule
from gpmt.core.blocks.blocks import MAX_BLOCKS, Blocks, Split
from gpmt.core.layers.layers import holds_expert_stack, output_dim
from gpmt.errors import ScopeError

_LEVELS = 5
"""How far above a tensor the module may be that takes it apart: `qkvs.0.conv.weight`."""


def blocks_in(name: str, tensor: Tensor, modules: Mapping[str, nn.Module]) -> Blocks | None:
    """Return how a tensor divides, by the classes of the modules around it; None for one block.

    Args:
        name: the name of the weight, also where it is computed from others.
        tensor: the weight, or a tensor of its shape.
        modules: all modules of the network by name.

    >>> layer = nn.MultiheadAttention(4, 2)
    >>> blocks_in("in_proj_weight", layer.in_proj_weight, {"": layer}).names("in_proj_weight")
    ['in_proj_weight.q', 'in_proj_weight.k', 'in_proj_weight.v']
    """
    path = name.split(".")
    owner = modules.get(".".join(path[:-1]))
    if owner is None:
        return None
    outputs = output_dim(type_before_parametrizations(owner).__name__)
    for level in range(1, min(_LEVELS, len(path)) + 1):
        module = modules.get(".".join(path[:-level]))
        kind: Any = type(module)
        rules = _rules_of(kind)
        if not rules:
            continue
        inner = ".".join(part for part in path[-level:] if part != "base_layer")  # of peft
        rule = next((rule for rule in rules if re.fullmatch(rule.weight, inner)), None)
        if rule is not None and (found := _divided(rule, module, tensor, outputs)) is not None:
            return found
    if holds_expert_stack(owner, path[-1], tensor) and tensor.ndim == 3:
        return stack_of_experts(tensor)
    return None


def stack_of_experts(tensor: Tensor) -> Blocks | None:
    """Return the experts of a tensor along its first dimension; None for a single one, or too many for blocks."""
    count = tensor.shape[0]
    return Blocks((Split.equal(0, count, count),)) if 1 < count <= MAX_BLOCKS else None


@lru_cache(maxsize=4096)
def _rules_of(kind: Any) -> tuple[Rule, ...]:
    names = [f"{ancestor.__module__}.{ancestor.__qualname__}" for ancestor in kind.__mro__]
    return tuple(rule for rule in RULES if any(re.fullmatch(rule.classes, name) for name in names))


def _divided(rule: Rule, module: object, tensor: Tensor, outputs: int) -> Blocks | None:
    try:
        blocks = Blocks(tuple(rule.divide(module, tuple(tensor.shape), outputs)))
        blocks.check(tensor, "")
    except (AttributeError, IndexError, ScopeError, TypeError, ValueError, ZeroDivisionError):
        return None  # another release of the library has other attributes or sizes
    return blocks if len(blocks) > 1 else None
