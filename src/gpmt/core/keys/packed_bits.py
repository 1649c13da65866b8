"""One bit a weight, packed: bit i, in flat (C) order, is at byte i // 8, bit i % 8; bits past the last are clear."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpmt.core.keys.keys import MagnitudeKeys, key_format_of
from gpmt.core.shards import whole
from gpmt.errors import MaskError


def pack(name: str, mask: object) -> Tensor:
    """Pack a bool tensor, or a bool array of NumPy, in any memory format: uint8 [ceil(numel / 8)].

    Raises `MaskError`, which names it, for anything else.

    >>> pack("w", torch.tensor([[True, False], [False, True]]))
    tensor([9], dtype=torch.uint8)
    """
    if isinstance(mask, np.ndarray):
        array = np.asarray(mask)
    elif not isinstance(mask, Tensor):
        raise MaskError(
            f"mask {name} is of type {type(mask).__name__}, but must be a bool tensor or a bool array of NumPy"
        )
    elif mask.dtype != torch.bool:
        raise MaskError(f"mask {name} is {mask.dtype}, but must be torch.bool with True for kept weights")
    elif mask.layout != torch.strided:
        raise MaskError(
            f"mask {name} has layout {mask.layout}, but must be dense; convert it with to_dense()"
        )
    else:
        array = whole(mask).detach().cpu().numpy()
    if array.dtype != np.bool_:
        raise MaskError(
            f"mask {name} is an array of {array.dtype}, but must be bool with True for kept weights"
        )
    return torch.from_numpy(np.packbits(array.reshape(-1), bitorder="little"))


def unpack(bits: Tensor, numel: int) -> NDArray[np.uint8]:
    """Return the first `numel` bits as zeros and ones.

    >>> unpack(torch.tensor([9], dtype=torch.uint8), 5)
    array([1, 0, 0, 1, 0], dtype=uint8)
    """
    return np.unpackbits(bits.numpy(), count=numel, bitorder="little")


def pack_nonzero(name: str, tensor: Tensor) -> Tensor:
    """Pack which weights are not zero, chunk by chunk; NaN counts as one of them, −0.0 does not.

    A tensor that several processes share is gathered, so that all of them have to call this. Raises `WeightsError`
    for one without data.
    """
    from gpmt.core.keys.key_packing import pack_keys  # numba takes long to import

    key_format = key_format_of([tensor])
    [packed] = pack_keys([MagnitudeKeys(name, whole(tensor), key_format)], key_format, keys=[0], ties=[0])
    return packed.bits


def complement(bits: Tensor, numel: int) -> Tensor:
    """Return the other bits of `numel`.

    >>> complement(torch.tensor([9], dtype=torch.uint8), 5)
    tensor([22], dtype=torch.uint8)
    """
    inverse = ~bits
    if rest := numel % 8:
        inverse[-1] &= (1 << rest) - 1
    return inverse
