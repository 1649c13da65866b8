"""What is ranked: the blocks of the tensors in scope, with the values that rank their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpmt.core.blocks.blocks import WHOLE
from gpmt.core.budget.first_match import Named
from gpmt.core.layers.axes import Axes
from gpmt.core.scope.scope import Scope
from gpmt.core.units.unit import Unit
from gpmt.errors import ScopeError


@dataclass(frozen=True)
class Item:
    """One block.

    Attributes:
        name: its name; that of its tensor where it is all of it.
        tensor: the name of its tensor.
        kind: the class of its layer.
        axes: which of its dimensions count outputs and inputs.
        shape: its shape, with as many dimensions as its tensor has.
        numel: the number of its units.
        values: what ranks the units, in their order.
        least: units that it keeps at least whatever the minimum is.
    """

    name: str
    tensor: str
    kind: str
    axes: Axes
    shape: tuple[int, ...]
    numel: int
    values: Tensor
    least: int = 0


def items_of(
    scope: Scope,
    unit: Unit,
    *,
    least: Mapping[str, int],
    scores: Mapping[str, Tensor] | None = None,
    whole: bool = False,
    read: bool = True,
) -> list[Item]:
    """Return the blocks of a scope.

    Args:
        scope: the tensors, whole.
        unit: what is pruned as one.
        least: units that some tensors keep at least, by name.
        scores: what ranks the weights of each tensor; their magnitudes where it is None.
        whole: make every tensor one block.
        read: rank the units; otherwise nothing is read, and the values have no data.

    Raises:
        ScopeError: a tensor has no such units, or a block the name of another.
        WeightsError: units cannot be ranked.
    """
    items: list[Item] = []
    taken: set[str] = set()
    for name, tensor in scope.tensors.items():
        kind, axes = scope.kinds[name], scope.axes[name]
        unit.check(name, axes, tuple(tensor.shape))
        used = tensor.detach() if scores is None else scores[name]
        if read and name in scope.effective:
            used = scope.effective[name].weight(tensor)
        blocks = WHOLE if whole or name in scope.effective else scope.blocks.get(name, WHOLE)
        names, shapes = blocks.names(name), blocks.shapes(tensor.shape)
        views = blocks.views(used) if read else [None] * len(names)
        for block, shape, view in zip(names, shapes, views, strict=True):
            numel = unit.count(axes, shape)
            if view is None:
                values = torch.empty(numel, device="meta")
            else:
                in_order = unit.in_order(axes, shape)
                values = view if in_order else unit.values(block, axes, view.reshape(shape))
            if block in taken:
                raise ScopeError(
                    f"{block} is the name of a tensor and of a block, or of two blocks; divide {name} by other "
                    "labels, or by a number of parts"
                )
            taken.add(block)
            items.append(Item(block, name, kind, axes, shape, numel, values, least.get(name, 0)))
    return items


def named(items: Sequence[Item], scope: Scope) -> list[Named]:
    """Return what patterns know of the blocks."""
    return [Named(item.name, (item.tensor, *scope.aliases.get(item.tensor, ())), item.kind) for item in items]
