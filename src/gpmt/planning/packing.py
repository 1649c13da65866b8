"""The bits of a selection, packed in one pass over the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gpmt.core.key_packing import pack_keys
from gpmt.core.keys import KeyFormat, KeySource, MagnitudeKeys
from gpmt.core.select import Cut
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
        return self._pack(range(len(self._sources)), zero=False)

    def pack_and_zero(self, targets: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
        """Return the packed bits, and set pruned weights to +0.0 where one pass can do both.

        Args:
            targets: the blocks that are pruned, in the tensors that may be written to, by name.

        Returns:
            The bits of all blocks by name, and the names of those in which the pruned weights are zero now.

        Raises `WeightsError` for weights that have changed, as a rule before anything is written.
        """
        self._check_unchanged()
        ranked = zip(self._tensors, self._sources, strict=True)
        places = [
            place
            for place, (name, source) in enumerate(ranked)
            if name in targets and _ranks_in_place(source, targets[name])
        ]
        names = list(self._tensors)
        written = {names[place] for place in places}
        for name in written:
            if not targets[name].is_inference():
                torch.autograd.graph.increment_version(targets[name])
        packed = self._pack(places, zero=True)
        packed |= self._pack(
            [place for place in range(len(names)) if names[place] not in written], zero=False
        )
        return {name: packed[name] for name in names}, written

    def _check_unchanged(self) -> None:
        for (name, tensor), count in zip(self._tensors.items(), self._write_counts, strict=True):
            if write_count(tensor) != count:
                raise WeightsError(_changed(name))

    def _pack(self, places: Sequence[int], *, zero: bool) -> dict[str, Tensor]:
        names, cuts = list(self._tensors), [self._cuts[place] for place in places]
        sources = [self._sources[place] for place in places]
        if not sources:
            return {}
        keys, ties = [cut.key for cut in cuts], [cut.ties for cut in cuts]
        found = pack_keys(sources, self._key_format, keys=keys, ties=ties, zero=zero)
        for source, cut, packed in zip(sources, cuts, found, strict=True):
            if packed.above + packed.tied != cut.kept or packed.tied != cut.ties:
                raise WeightsError(_changed(source.name))
        return {names[place]: packed.bits for place, packed in zip(places, found, strict=True)}


def _ranks_in_place(source: KeySource, target: Tensor) -> bool:
    """Whether a tensor is ranked by its own magnitudes, read where they lie."""
    stored = source.stored() if type(source) is MagnitudeKeys else None
    if stored is None or target.device.type != "cpu":
        return False
    return (
        stored.data_ptr() == target.data_ptr()
        and stored.shape == target.shape
        and stored.dtype == target.dtype
        and target.is_contiguous()
    )


def _changed(name: str) -> str:
    return f"the weights of {name} have changed since they were planned; plan again"
