"""Masks from thresholds: one bit a key, and in the same pass, where that is asked for, zeros for pruned weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.core.keys import device_keys, key_loops
from gpmt.core.keys.key_reader import Stored, map_groups, part_of, thread_count
from gpmt.core.keys.keys import KeyFormat, KeySource


@dataclass(frozen=True, eq=False)
class Packed:
    """The bits of one source, uint8 [ceil(numel / 8)] on the CPU, and what they are set for."""

    bits: Tensor
    above: int
    tied: int


def pack_keys(
    sources: Sequence[KeySource],
    key_format: KeyFormat,
    *,
    keys: Sequence[int],
    ties: Sequence[int],
    zero: bool = False,
) -> list[Packed]:
    """Set a bit for each key above keys[l], and for the first ties[l] equal to it in flat order.

    With `zero`, sources that are read where they lie are written to: elements whose bit is clear become +0.0.
    """
    packed: dict[int, Packed] = {}

    def work(group: list[int]) -> None:
        part = part_of(sources, group)
        for run in part.stored:
            packed.update(_pack_stored(run, key_format, keys, ties, zero))
        for index in part.others:
            packed[index] = _pack_chunks(sources[index], key_format, keys[index], ties[index])

    map_groups(sources, work, thread_count(sources))
    return [packed[index] for index in range(len(sources))]


def _pack_stored(
    run: Stored, key_format: KeyFormat, keys: Sequence[int], ties: Sequence[int], zero: bool
) -> dict[int, Packed]:
    indices = run.indices.tolist()
    bits = [np.empty((size + 7) // 8, np.uint8) for size in run.sizes.tolist()]
    left = np.array([ties[index] for index in indices], np.int64)
    above = _pack(run, key_format, [keys[index] for index in indices], left, bits, zero)
    return {
        index: Packed(torch.from_numpy(packed), larger, ties[index] - rest)
        for index, packed, larger, rest in zip(indices, bits, above.tolist(), left.tolist(), strict=True)
    }


def _pack(
    run: Stored,
    key_format: KeyFormat,
    keys: Sequence[int],
    ties: NDArray[np.int64],
    bits: Sequence[NDArray[np.uint8]],
    zero: bool,
) -> NDArray[np.int64]:
    """Pack the bits of several arrays; return how many are above, and leave in `ties` what is left of them."""
    above = np.zeros(len(keys), np.int64)
    key_loops.pack(
        run.addresses,
        run.sizes,
        run.element,
        key_format.word(-1 if key_format.signed else 0),
        np.array(keys, key_format.word),
        ties,
        np.array([packed.ctypes.data for packed in bits], np.int64),
        zero,
        above,
    )
    return above


def _pack_chunks(source: KeySource, key_format: KeyFormat, key: int, ties: int) -> Packed:
    bits = np.zeros((source.numel + 7) // 8, np.uint8)
    start, above, left = 0, 0, ties
    for chunk in source.chunks():
        if chunk.device.type == "cpu":
            chunk = chunk.contiguous()
            packed = np.empty((len(chunk) + 7) // 8, np.uint8)
            rest = np.array([left], np.int64)
            above += int(_pack(Stored.of_chunk(chunk), key_format, [key], rest, [packed], False)[0])
            left = int(rest[0])
        else:
            packed, larger, tied = device_keys.pack(device_keys.keys_of(chunk, key_format), key, left)
            above += larger
            left -= tied
        key_loops.shift_in(bits, start, packed)
        start += len(chunk)
    return Packed(torch.from_numpy(bits), above, ties - left)
