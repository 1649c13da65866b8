"""Bits of tensors, by which 0.0 is not -0.0 and NaN equals itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def integers(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return the bits of a contiguous CPU tensor as a flat array of integers of its width, sharing memory."""
    return _flat(tensor).view(_INTEGERS[tensor.element_size()]).numpy()


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
