"""Random pruning: one global threshold on random numbers in place of magnitudes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from gpmt.allocations.exact import Exact
from gpmt.core.keys.keys import CHUNK, KeyFormat, KeySource

FORMAT = KeyFormat(torch.float32, torch.int32, 31, 1 << 31)
"""31 random bits; none of them stands for infinity."""


class Random(Exact):
    """Keep the weights with the largest of the random numbers that the seed gives."""

    global_threshold = False  # the threshold is one of random numbers
    scores = False

    def keys(self, tensors: Mapping[str, Tensor], *, seed: int = 0) -> tuple[list[KeySource], KeyFormat]:
        """Return the random numbers; raise `WeightsError` for weights without data, which cannot be pruned."""
        sources, _ = super().keys(tensors)
        return [RandomKeys(source, seed, index) for index, source in enumerate(sources)], FORMAT


class RandomKeys:
    """Keys drawn from a counter-based generator, so that they depend on the seed and the position alone.

    Weight i of tensor t gets 31 bits of SplitMix64 (Steele et al. 2014) at counter t · 2^40 + i: the same on
    every machine and device, however the weights are chunked.
    """

    def __init__(self, source: KeySource, seed: int, tensor: int, *, chunk: int = CHUNK) -> None:
        self.name = source.name
        self.numel = source.numel
        self.device = torch.device("cpu")
        self._seed = seed
        self._tensor = tensor
        self._chunk = chunk

    def chunks(self) -> Iterator[Tensor]:
        """Yield int32 CPU tensors of non-negative random keys in flat order."""
        for start in range(0, self.numel, self._chunk):
            end = min(start + self._chunk, self.numel)
            yield random_bits(self._seed, self._tensor, start, end)


def random_bits(seed: int, tensor: int, start: int, end: int) -> Tensor:
    """Return 31 random bits, int32 on the CPU, for the weights `start` to `end` of the tensor at place `tensor`."""
    base = _wrap((seed << 1 | 1) * 0x9E37_79B9_7F4A_7C15 ^ tensor << 40)
    counter = torch.arange(start, end, dtype=torch.int64, device="cpu")
    return (_mix(counter + base) & 0x7FFF_FFFF).to(torch.int32)


def _mix(state: Tensor) -> Tensor:
    """Apply SplitMix64's output function to int64 counters; products wrap around as in unsigned arithmetic."""
    state = state * _wrap(0x9E37_79B9_7F4A_7C15)
    state = (state ^ _logical_shift(state, 30)) * _wrap(0xBF58_476D_1CE4_E5B9)
    state = (state ^ _logical_shift(state, 27)) * _wrap(0x94D0_49BB_1331_11EB)
    return state ^ _logical_shift(state, 31)


def _logical_shift(state: Tensor, distance: int) -> Tensor:
    return (state >> distance) & ((1 << (64 - distance)) - 1)


def _wrap(value: int) -> int:
    """Return the int64 with the same low 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
