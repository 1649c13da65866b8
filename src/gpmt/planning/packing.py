"""The bits of a selection, packed in one pass over the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gpmt.core import key_loops
from gpmt.core.keys import KeyFormat, KeySource
from gpmt.core.select import Cut, map_groups, thread_count
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
        for (name, tensor), count in zip(self._tensors.items(), self._write_counts, strict=True):
            if write_count(tensor) != count:
                raise WeightsError(_changed(name))
        packed: dict[int, Tensor] = {}

        def work(group: list[int]) -> None:
            for index in group:
                packed[index] = self._pack(index)

        map_groups(self._sources, work, thread_count(self._sources))
        return {name: packed[index] for index, name in enumerate(self._tensors)}

    def _pack(self, index: int) -> Tensor:
        source, cut = self._sources[index], self._cuts[index]
        bits = np.zeros((source.numel + 7) // 8, np.uint8)
        start, ties, above = 0, cut.ties, 0
        for keys in source.chunks():
            larger, tied = key_loops.pack_kept(
                keys, bits=self._key_format.bits, threshold=cut.key, ties=ties, packed=bits, start=start
            )
            start += len(keys)
            above += larger
            ties -= tied
        if above + cut.ties != cut.kept or ties:
            raise WeightsError(_changed(source.name))
        return torch.from_numpy(bits)


def _changed(name: str) -> str:
    return f"the weights of {name} have changed since they were planned; plan again"
