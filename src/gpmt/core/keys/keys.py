"""What ranks weights, as integers: the key of a float orders as its magnitude does, or as a signed score does.

The bits of a non-negative IEEE float, read as an integer, increase with its value. A magnitude's key is these bits
without the sign; a score's key is the same, negated where the score is negative. Ranking integers is exact, needs no
arithmetic, and treats −0.0 and +0.0 alike. float16 and bfloat16 values are widened to float32 (exactly) while they
are read; if any tensor of the network is float64, all are widened to float64 so that their keys share one scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gpmt.core.missing_data import check_has_data

CHUNK = 1 << 19
"""Max weights read at a time where they are not read in place: few enough to stay in the cache."""


@dataclass(frozen=True)
class KeyFormat:
    """The `dtype` of the float whose bits the keys are, the `integer` type that holds them, and their length.

    Chunks of keys hold the bits of floats: the key is their low `bits` bits, negated if `signed` and the sign is set.
    """

    dtype: torch.dtype
    integer: torch.dtype
    bits: int
    infinity: int
    """The key of infinity; larger keys are NaNs."""
    signed: bool = False
    """Scores, of which infinities are allowed, in place of magnitudes, which have to be finite."""

    @property
    def lower(self) -> int:
        """The smallest key that can be ranked."""
        return -self.infinity if self.signed else 0

    @property
    def upper(self) -> int:
        """The smallest key that is too large to be ranked."""
        return self.infinity + 1 if self.signed else self.infinity

    @property
    def word(self) -> type[np.int32 | np.int64]:
        """NumPy's type of the keys."""
        return np.int32 if self.integer == torch.int32 else np.int64


KEY32 = KeyFormat(torch.float32, torch.int32, 31, 0x7F80_0000)
KEY64 = KeyFormat(torch.float64, torch.int64, 63, 0x7FF0_0000_0000_0000)
SCORE32 = KeyFormat(torch.float32, torch.int32, 31, 0x7F80_0000, signed=True)
SCORE64 = KeyFormat(torch.float64, torch.int64, 63, 0x7FF0_0000_0000_0000, signed=True)


class KeySource(Protocol):
    """Something that ranks the positions of one tensor: chunks of integers in flat (C) order."""

    name: str
    numel: int
    device: torch.device
    """Where the keys are."""

    def chunks(self) -> Iterator[Tensor]:
        """Yield 1-D int32 or int64 tensors, the bits of floats (see `KeyFormat`), in flat order."""
        ...


def key_format_of(tensors: Iterable[Tensor]) -> KeyFormat:
    """Return the narrowest format that holds the magnitudes of all `tensors` exactly."""
    return KEY64 if any(tensor.dtype == torch.float64 for tensor in tensors) else KEY32


def score_format_of(scores: Iterable[Tensor]) -> KeyFormat:
    """Return the narrowest format that holds all signed `scores` exactly."""
    return SCORE64 if any(tensor.dtype == torch.float64 for tensor in scores) else SCORE32


def key_value(key: int, key_format: KeyFormat) -> float:
    """Return the magnitude or score whose key is `key`.

    >>> key_value(0x3F80_0000, KEY32), key_value(-0x3F80_0000, SCORE32)
    (1.0, -1.0)
    """
    value = torch.tensor(abs(key), dtype=key_format.integer, device="cpu").view(key_format.dtype).item()
    return -value if key < 0 else value


class MagnitudeKeys:
    """Read the keys of one tensor's magnitudes on the device where the tensor lives."""

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

    def stored(self) -> Tensor | None:
        """Return the tensor if its keys can be read where it lies: float bits in flat order, or the leading half."""
        # Tensors of a class of their own need not hold their values as they are.
        if self.device.type != "cpu" or type(self._tensor) is not Tensor or not self._tensor.is_contiguous():
            return None
        halves = self._tensor.dtype == torch.bfloat16 and self._key_format.dtype == torch.float32
        return self._tensor if halves or self._tensor.dtype == self._key_format.dtype else None

    def sample(self, first: int, every: int) -> Iterator[Tensor]:
        """Yield the keys at every `every`-th position from `first` on; of other memory formats in any order."""
        order = sorted(range(self._tensor.ndim), key=self._tensor.stride, reverse=True)
        tensor = self._tensor.permute(order)
        if tensor.is_contiguous():
            keys = tensor.view(-1)[first::every]
            yield keys.to(self._key_format.dtype).view(self._key_format.integer)
        else:
            yield from every_nth(self.chunks(), first, every)


class ScoreKeys(MagnitudeKeys):
    """Read the keys of one tensor's signed scores, in a format of `score_format_of`.

    −inf is always pruned first and +inf kept first; NaN is refused by `select`.
    """


def every_nth(chunks: Iterable[Tensor], first: int, every: int) -> Iterator[Tensor]:
    """Yield the elements at every `every`-th position from `first` on of consecutive chunks."""
    for chunk in chunks:
        if first < len(chunk):
            yield chunk[first::every]
        first = (first - len(chunk)) % every if first < len(chunk) else first - len(chunk)


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
