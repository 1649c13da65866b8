"""Bits of tensors, by which 0.0 is not -0.0 and NaN equals itself."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gpmt.errors import GpmtError

SignedZeros = Literal["drop", "keep"]
"""Whether -0.0 is a zero like any other, or counts as a kept weight so that its sign is kept."""

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def integers(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return the bits of a contiguous CPU tensor as a flat array of integers of its width, sharing memory."""
    return _flat(tensor).view(_INTEGERS[tensor.element_size()]).numpy()


def nonzero(tensor: Tensor, *, signed_zeros: bool = False) -> np.ndarray[Any, Any]:
    """Tell which weights of a contiguous CPU tensor are not zero (flat, bool); -0.0 counts if `signed_zeros`.

    >>> nonzero(torch.tensor([0.0, -0.0, 1.0])).tolist()
    [False, False, True]
    """
    bits, dtype = integers(tensor), tensor.dtype
    if not signed_zeros and dtype.is_floating_point:
        bits = bits & bits.dtype.type(_without_sign(8 * dtype.itemsize))
    elif not signed_zeros and dtype.is_complex:
        half = _without_sign(4 * dtype.itemsize)
        bits = bits & bits.dtype.type(half << 4 * dtype.itemsize | half)
    found: np.ndarray[Any, Any] = bits != 0
    return found


def _without_sign(bits: int) -> int:
    return (1 << (bits - 1)) - 1


def keeps_signs(signed_zeros: SignedZeros) -> bool:
    """Return whether -0.0 counts as a kept weight. Raises `GpmtError` for another word than these two."""
    if signed_zeros not in get_args(SignedZeros):
        raise GpmtError(f"signed_zeros is {signed_zeros!r}, but must be drop or keep")
    return signed_zeros == "keep"


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors, on any device, have the same type, shape and bits.

    >>> same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    False
    """
    return (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: Tensor) -> Tensor:
    return _flat(tensor.detach().cpu().contiguous()).view(torch.uint8)


def _flat(tensor: Tensor) -> Tensor:
    """Flatten a contiguous tensor to a stride of 1, which `view` needs; a dimension of size 1 may have had any."""
    return tensor.as_strided((tensor.numel(),), (1,))
