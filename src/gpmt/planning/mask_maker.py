"""Masks from the cuts of blocks, and zeros for the pruned weights in the same pass where that can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from gpmt.core.scope.scope import Scope
from gpmt.core.units.unit import Unit
from gpmt.masks import Masks
from gpmt.model_tools import unwrap
from gpmt.planning.assembly import assemble, assemble_one
from gpmt.planning.items import Item
from gpmt.planning.packing import MaskPacker


class MaskMaker:
    """What makes the masks of a plan; it holds the weights."""

    def __init__(self, scope: Scope, items: Sequence[Item], unit: Unit, packer: MaskPacker) -> None:
        self._scope, self._items, self._unit, self._packer = scope, items, unit, packer
        self._blocks: dict[str, list[int]] = {}
        for number, item in enumerate(items):
            self._blocks.setdefault(item.tensor, []).append(number)

    def masks(self) -> Masks:
        """Return the masks; raise `WeightsError` once weights have changed."""
        return self._assemble(self._packer.pack())

    def bits(self, tensor: str) -> Tensor:
        """Return the packed mask of one tensor; raise `WeightsError` once weights have changed."""
        blocks = self._blocks[tensor]
        items = [self._items[number] for number in blocks]
        return assemble_one(self._scope, tensor, items, self._unit, self._packer.pack(blocks))

    def prune_(self, target: nn.Module | Mapping[str, Tensor]) -> Masks | None:
        """Return the masks, and set the pruned weights of `target` to +0.0 in the same pass.

        Returns None, and changes nothing, unless all blocks are weights of `target` that are read where they lie.
        Raises `WeightsError` once weights have changed.
        """
        tensors: Mapping[str, object] = (
            dict(unwrap(target).named_parameters(remove_duplicate=False))
            if isinstance(target, nn.Module)
            else target
        )
        holders = [tensors.get(item.tensor) for item in self._items]
        if self._unit.name != "weight" or not self._packer.lies_in(holders):
            return None
        return self._assemble(self._packer.pack_and_zero())

    def _assemble(self, packed: Mapping[str, Tensor]) -> Masks:
        masks = assemble(self._scope, self._items, self._unit, packed)
        return Masks(masks, {name: tuple(tensor.shape) for name, tensor in self._scope.tensors.items()})
