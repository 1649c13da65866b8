"""Magnitudes as integers: a weight's key is its float bits without the sign, and keys order as |w| does.

The bits of a non-negative IEEE float, read as an unsigned integer, increase with its value. Ranking these
integers is therefore exact, needs no arithmetic, and treats −0.0 and +0.0 alike. float16 and bfloat16
weights are widened to float32 (exactly) while they are read, one chunk at a time; if any tensor of the
network is float64, all are widened to float64 so that their keys share one scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gpmt.core.missing_data import check_has_data

CHUNK = 1 << 19
"""Max weights read at a time: few enough to stay in the cache, many enough to be worth a call."""


@dataclass(frozen=True)
class KeyFormat:
    """The `dtype` of the float whose bits the keys are, the `integer` type that holds them, and their length.

    A key has `bits` bits, and is read in digits from the top: the first of 15 bits, the others of 16.
    """

    dtype: torch.dtype
    integer: torch.dtype
    bits: int
    infinity: int
    """The key of infinity; larger keys are NaNs."""

    @property
    def shifts(self) -> tuple[int, ...]:
        """Distance of each digit from the lowest bit, top digit first."""
        return tuple(range(self.bits - 15, -1, -16))


KEY32 = KeyFormat(torch.float32, torch.int32, 31, 0x7F80_0000)
KEY64 = KeyFormat(torch.float64, torch.int64, 63, 0x7FF0_0000_0000_0000)


class KeySource(Protocol):
    """Something that ranks the positions of one tensor: chunks of non-negative integers in flat (C) order."""

    name: str
    numel: int
    device: torch.device
    """Where the keys are."""

    def chunks(self) -> Iterator[Tensor]:
        """Yield 1-D int32 or int64 tensors whose low `KeyFormat.bits` bits are the keys."""
        ...


def key_format_of(tensors: Iterable[Tensor]) -> KeyFormat:
    """Return the narrowest format that holds the magnitudes of all `tensors` exactly."""
    return KEY64 if any(tensor.dtype == torch.float64 for tensor in tensors) else KEY32


def key_value(key: int, key_format: KeyFormat) -> float:
    """Return the magnitude whose key is `key`.

    >>> key_value(0x3F80_0000, KEY32)
    1.0
    """
    return torch.tensor(key, dtype=key_format.integer, device="cpu").view(key_format.dtype).item()


class MagnitudeKeys:
    """Read the keys of one tensor's magnitudes, chunk by chunk, on the device where the tensor lives."""

    def __init__(self, name: str, tensor: Tensor, key_format: KeyFormat, *, chunk: int = CHUNK) -> None:
        check_has_data({name: tensor})
        self.name = name
        self.numel = tensor.numel()
        self.device = tensor.device
        self._tensor = tensor.detach()
        self._key_format = key_format
        # Views cost nothing; chunks that have to be copied or widened are smaller, to keep the copies small.
        view = tensor.is_contiguous() and tensor.dtype == key_format.dtype
        self._chunk = chunk if view else max(1, chunk // 4)

    def chunks(self) -> Iterator[Tensor]:
        """Yield the float bits, sign included, of consecutive weights in flat order."""
        for chunk in flat_chunks(self._tensor, self._chunk):
            yield chunk.to(self._key_format.dtype).view(self._key_format.integer)


def flat_chunks(tensor: Tensor, chunk: int) -> Iterator[Tensor]:
    """Yield 1-D tensors of at most `chunk` elements, in flat (C) order for any memory format.

    Chunks of a contiguous tensor are views; others are copied one chunk at a time.

    >>> list(flat_chunks(torch.arange(6).reshape(2, 3).T, 4))
    [tensor([0, 3, 1, 4]), tensor([2, 5])]
    """
    if tensor.is_contiguous():
        yield from torch.split(tensor.view(-1), chunk)
    elif tensor.numel() <= chunk:
        yield tensor.reshape(-1)
    else:
        axis = next(i for i, size in enumerate(tensor.shape) if size > 1)
        rows = max(1, tensor.shape[axis] * chunk // tensor.numel())
        for part in torch.split(tensor, rows, dim=axis):
            yield from flat_chunks(part, chunk)


def is_all_zero(tensor: Tensor) -> bool:
    """Whether every element is zero; a tensor with others is known from the first of them.

    >>> is_all_zero(torch.tensor([0.0, -0.0])), is_all_zero(torch.tensor([0.0, 1.0]))
    (True, False)
    """
    start = tensor.detach()[:1]  # of nearly all tensors it is enough
    return not bool(start.any()) and not any(
        bool(chunk.any()) for chunk in flat_chunks(tensor.detach(), CHUNK)
    )
