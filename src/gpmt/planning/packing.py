"""The bits of a selection, packed in one pass over the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gpmt.core.keys.key_packing import pack_keys
from gpmt.core.keys.keys import KeyFormat, KeySource, MagnitudeKeys
from gpmt.core.selection.select import Cut
from gpmt.errors import WeightsError
from gpmt.torch_private import write_count


class MaskPacker:
    """Make the bits of blocks from their cuts, unless the weights have changed since.

    Args:
        tensors: the tensor that each block is in, by the name of the block.
        sources: the keys of each block.
        key_format: what the keys are.
        cuts: where each block is cut.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        sources: Sequence[KeySource],
        key_format: KeyFormat,
        cuts: Sequence[Cut],
    ) -> None:
        self._tensors, self._sources, self._cuts = tensors, sources, cuts
        self._key_format, self._names = key_format, list(tensors)
        self._write_counts = {name: write_count(tensor) for name, tensor in tensors.items()}

    def pack(self, blocks: Sequence[int] | None = None) -> dict[str, Tensor]:
        """Return the packed bits of each block by name; raise `WeightsError` for weights that have changed.

        Args:
            blocks: the numbers of some blocks; by default all.
        """
        chosen = range(len(self._sources)) if blocks is None else blocks
        self._check_unchanged(chosen)
        return self._pack(chosen, zero=False)

    def lies_in(self, holders: Sequence[object]) -> bool:
        """Whether every block is ranked by its own magnitudes, read where they lie in a tensor of `holders`."""
        return all(map(_lies_in, self._sources, holders))

    def pack_and_zero(self) -> dict[str, Tensor]:
        """Do as `pack`, and set the pruned weights to +0.0, in place; for weights that are read where they lie."""
        every = range(len(self._sources))
        self._check_unchanged(every)
        for tensor in {id(tensor): tensor for tensor in self._tensors.values()}.values():
            if not tensor.is_inference():
                torch.autograd.graph.increment_version(tensor)
        return self._pack(every, zero=True)

    def _check_unchanged(self, blocks: Sequence[int]) -> None:
        for name in (self._names[block] for block in blocks):
            if write_count(self._tensors[name]) != self._write_counts[name]:
                raise WeightsError(_changed(name))

    def _pack(self, blocks: Sequence[int], *, zero: bool) -> dict[str, Tensor]:
        sources, cuts = [self._sources[block] for block in blocks], [self._cuts[block] for block in blocks]
        keys, ties = [cut.key for cut in cuts], [cut.ties for cut in cuts]
        found = pack_keys(sources, self._key_format, keys=keys, ties=ties, zero=zero)
        for source, cut, packed in zip(sources, cuts, found, strict=True):
            if packed.above + packed.tied != cut.kept or packed.tied != cut.ties:
                raise WeightsError(_changed(source.name))
        return {self._names[block]: packed.bits for block, packed in zip(blocks, found, strict=True)}


def _lies_in(source: KeySource, holder: object) -> bool:
    # The class tells scores, and tensors that hold their values in another way, such as DTensor.
    stored = source.stored() if type(source) is MagnitudeKeys else None
    if stored is None or not isinstance(holder, Tensor) or type(holder.detach()) is not Tensor:
        return False
    same_memory = stored.untyped_storage().data_ptr() == holder.untyped_storage().data_ptr()
    return same_memory and stored.dtype == holder.dtype


def _changed(name: str) -> str:
    return f"the weights of {name} have changed since they were planned; plan again"
