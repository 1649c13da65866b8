"""The operations of `key_loops` on keys that are not on the CPU, in PyTorch's operations: the same results."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.core.keys.keys import KeyFormat


def keys_of(chunk: Tensor, key_format: KeyFormat) -> Tensor:
    """Return the keys of a chunk of float bits, on its device."""
    keys = chunk & ((1 << key_format.bits) - 1)
    return torch.where(chunk < 0, -keys, keys) if key_format.signed else keys


def count_from(keys: Tensor, limits: list[int]) -> Tensor:
    """Count the keys from each limit on: int64 [limits], on the device of the keys."""
    return torch.stack([(keys >= limit).sum() for limit in limits])


def inside(keys: Tensor, intervals: list[tuple[int, int]]) -> Tensor:
    """Return the keys that lie in one of the intervals [lower, upper), in order."""
    hits = torch.zeros_like(keys, dtype=torch.bool)
    for lower, upper in intervals:
        hits |= (keys >= lower) & (keys < upper)
    return keys[hits]


def pack(keys: Tensor, key: int, ties: int) -> tuple[NDArray[np.uint8], int, int]:
    """Return one bit a key, set above `key` and for the first `ties` equal to it, and the numbers of both."""
    larger, equal = keys > key, keys == key
    tied = equal & (equal.cumsum(0) <= ties)
    bits = np.packbits((larger | tied).cpu().numpy(), bitorder="little")
    return bits, int(larger.sum()), int(tied.sum())
