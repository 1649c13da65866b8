"""The masks of tensors, put together from those of their blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gpmt.core.blocks.blocks import Blocks
from gpmt.core.scope.scope import Scope
from gpmt.core.units.unit import Unit
from gpmt.planning.items import Item


def assemble(
    scope: Scope, items: Sequence[Item], unit: Unit, packed: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the packed mask of every tensor, given the packed bits of the units of every block.

    Where a block is not all of a tensor, or a unit not one weight, one tensor is unpacked at a time.
    """
    members: dict[str, list[Item]] = {name: [] for name in scope.tensors}
    for item in items:
        members[item.tensor].append(item)
    return {name: assemble_one(scope, name, blocks, unit, packed) for name, blocks in members.items()}


def assemble_one(
    scope: Scope, name: str, items: Sequence[Item], unit: Unit, packed: Mapping[str, Tensor]
) -> Tensor:
    """Return the packed mask of one tensor, given its blocks and the packed bits of their units."""
    [first, *more] = items
    if not more and unit.in_order(first.axes, first.shape):
        return packed[first.name]
    if (
        more
        and _follow(scope.blocks[name])
        and all(item.numel % 8 == 0 and unit.in_order(item.axes, item.shape) for item in items)
    ):
        return torch.cat([packed[item.name] for item in items])
    mask = torch.zeros(scope.tensors[name].shape, dtype=torch.bool, device="cpu")
    views = scope.blocks[name].views(mask) if more else [mask]
    for item, view in zip(items, views, strict=True):
        kept = np.unpackbits(packed[item.name].numpy(), count=item.numel, bitorder="little").view(np.bool_)
        view.copy_(unit.spread(torch.from_numpy(kept), item.axes, item.shape).reshape(view.shape))
    return torch.from_numpy(np.packbits(mask.view(-1).numpy(), bitorder="little"))


def _follow(blocks: Blocks) -> bool:
    """Whether the blocks follow one another in memory: those of a stack, and the rows of each in parts."""
    *stacks, last = blocks.splits
    return [split.dim for split in blocks.splits] == list(range(len(blocks.splits))) and all(
        split.repeats == 1 and (split is last or set(split.parts) == {1}) for split in [*stacks, last]
    )
