"""The bits of blocks of whose runs each keeps so many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from gpmt.core.keys.keys import KeyFormat, KeySource
from gpmt.core.selection.runs import pack_runs
from gpmt.planning.packing import MaskPacker


class RunPacker(MaskPacker):
    """Make the bits of blocks whose weights are compared in runs, unless the weights have changed since.

    Args:
        tensors: what each block is ranked by, by the name of the block: the tensor that it is in, or its scores.
        sources: the keys of each block, run by run.
        key_format: what the keys are.
        lengths: the length of the runs of each block.
        kept: how many of each run stay.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        sources: Sequence[KeySource],
        key_format: KeyFormat,
        *,
        lengths: Sequence[int],
        kept: Sequence[int],
    ) -> None:
        super().__init__(tensors, sources, key_format, ())
        self._blocks = list(zip(tensors, sources, lengths, kept, strict=True))
        self._format = key_format

    def lies_in(self, holders: Sequence[object]) -> bool:
        """Say that masks come first, and zeros in a pass of their own."""
        return False

    def _pack(self, blocks: Sequence[int], *, zero: bool) -> dict[str, Tensor]:
        names, sources, lengths, kept = zip(*(self._blocks[block] for block in blocks), strict=True)
        found = pack_runs(sources, self._format, lengths=lengths, kept=kept)
        return dict(zip(names, found, strict=True))
