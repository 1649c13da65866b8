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
        self._key_format = key_format
        self._write_counts = [write_count(tensor) for tensor in tensors.values()]

    def pack(self) -> dict[str, Tensor]:
        """Return the packed bits of each block by name; raise `WeightsError` for weights that have changed."""
        self._check_unchanged()
        return self._pack(zero=False)

    def lies_in(self, holders: Sequence[object]) -> bool:
        """Whether every block is ranked by its own magnitudes, read where they lie in a tensor of `holders`."""
        return all(map(_lies_in, self._sources, holders))

    def pack_and_zero(self) -> dict[str, Tensor]:
        """Do as `pack`, and set the pruned weights to +0.0, in place; for weights that are read where they lie."""
        self._check_unchanged()
        for tensor in {id(tensor): tensor for tensor in self._tensors.values()}.values():
            if not tensor.is_inference():
                torch.autograd.graph.increment_version(tensor)
        return self._pack(zero=True)

    def _check_unchanged(self) -> None:
        for (name, tensor), count in zip(self._tensors.items(), self._write_counts, strict=True):
            if write_count(tensor) != count:
                raise WeightsError(_changed(name))

    def _pack(self, *, zero: bool) -> dict[str, Tensor]:
        keys, ties = [cut.key for cut in self._cuts], [cut.ties for cut in self._cuts]
        found = pack_keys(self._sources, self._key_format, keys=keys, ties=ties, zero=zero)
        for source, cut, packed in zip(self._sources, self._cuts, found, strict=True):
            if packed.above + packed.tied != cut.kept or packed.tied != cut.ties:
                raise WeightsError(_changed(source.name))
        return {name: packed.bits for name, packed in zip(self._tensors, found, strict=True)}


def _lies_in(source: KeySource, holder: object) -> bool:
    # The class tells scores, and tensors that hold their values in another way, such as DTensor.
    stored = source.stored() if type(source) is MagnitudeKeys else None
    if stored is None or not isinstance(holder, Tensor) or type(holder.detach()) is not Tensor:
        return False
    same_memory = stored.untyped_storage().data_ptr() == holder.untyped_storage().data_ptr()
    return same_memory and stored.dtype == holder.dtype


def _changed(name: str) -> str:
    return f"the weights of {name} have changed since they were planned; plan again"
