"""One tensor as a sparse file stores it: its checksum, and its decoding in independent pieces."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.bits import integers
from gpmt.formats.masks import rice
from gpmt.formats.masks.rice import Bits
from gpmt.formats.sparse.header import Entry
from gpmt.formats.sparse.jobs import Job
from gpmt.formats.sparse.values import Rounding, check_codes


class StoredTensor:
    """The parts of one tensor, mapped from the file: scales if any, values, mask; or all of a dense one."""

    def __init__(self, path: Path, name: str, entry: Entry, parts: Sequence[Tensor]) -> None:
        self.name = name
        self.entry = entry
        self._path = path
        self._parts = parts

    def check(self) -> None:
        """Raise `CheckpointError` where the stored bytes do not match their checksum, or are not valid in 8 bits."""
        crc = 0
        for part in self._parts:
            crc = zlib.crc32(integers(part).data, crc)
        if crc != self.entry.crc32:
            raise CheckpointError(
                f"{self._path}: {self.name} does not match its checksum ({crc:08x}, not {self.entry.crc32:08x}); "
                "copy it again, or read the others with --skip-bad (skip_bad=True)"
            )
        scales, values = self._scales_and_values()
        if scales and (problem := check_codes(values, *scales)):
            raise CheckpointError(f"{self._path}: {self.name} is damaged: {problem}; write it again")

    def packed(self) -> Bits:
        """Return the mask's bits."""
        try:
            return rice.decode(self._code)
        except MaskError as error:
            raise self._damaged(error) from None

    def jobs(self, out: Tensor) -> Iterator[Job]:
        """Yield the jobs that fill `out`; they may run in any order, and at the same time.

        The index of a mask is checked at once. Raises `CheckpointError`, as the jobs do, for what is damaged.
        """
        if self.entry.coding is None:
            [part] = self._parts
            # By bits: a floating-point copy need not keep the payload of a NaN.
            yield lambda: np.copyto(integers(out), integers(part))
            return
        try:
            kept = self._code.index.kept
        except MaskError as error:
            raise self._damaged(error) from None
        scales, values = self._scales_and_values()
        rounding = Rounding(self.name, self.entry.coding.values, self.entry.shape, *scales)
        flat, stored = out.view(-1), integers(values)

        def fill(first: int, last: int) -> None:
            start = first * rice.BLOCK
            piece = flat[start : last * rice.BLOCK]
            same = rounding.dtype == piece.dtype
            staged = piece if same else torch.empty(piece.shape, dtype=rounding.dtype, device="cpu")
            try:
                rice.scatter(self._code, first, last, stored[kept[first] : kept[last]], integers(staged))
            except MaskError as error:
                raise self._damaged(error) from None
            if not same:
                rounding.restore(staged, start, piece)

        # What is staged is small: memory that threads have freed stays theirs for a while.
        stretches = (
            rice.block_ranges(self.entry.numel)
            if rounding.dtype == out.dtype
            else rice.block_ranges(out.numel(), 1)
        )
        for first, last in stretches:
            yield lambda first=first, last=last: fill(first, last)  # type: ignore[misc]

    @cached_property
    def _code(self) -> rice.RiceCode:
        coding = self.entry.coding
        assert coding is not None
        data = self._parts[-1].numpy()[: coding.mask_bytes]
        return rice.RiceCode(self.entry.numel, coding.kept, coding.parameter, coding.complement, data)

    def _scales_and_values(self) -> tuple[list[Tensor], Tensor]:
        """Return the scales, a list of one or none, and the values; of a dense tensor no scales and itself."""
        if self.entry.coding is None:
            return [], self._parts[0]
        *scales, values, _ = self._parts
        return scales, values

    def _damaged(self, error: MaskError) -> CheckpointError:
        """Return the error for an invalid code: a checksum that does not match explains it."""
        try:
            self.check()
        except CheckpointError as mismatch:
            return mismatch
        return CheckpointError(f"{self._path}: {self.name} is damaged: {error}")
