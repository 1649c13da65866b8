"""The bytes of tensors with their pruned weights as zeros, made piece by piece, so that no whole tensor is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

PIECE = 1 << 21
"""Elements of a piece: 8 MiB of float32."""


class MaskedBytes:
    """Writes tensors under masks that are made when they are needed.

    Args:
        mask: returns the packed bits of a tensor by name, uint8 [ceil(numel / 8)]; None for one that is not pruned.
        progress: is told of the bytes after every piece.
        piece: elements of a piece, a multiple of 8.

    Attributes:
        zeros: how many zeros each tensor with a mask was written with, by name.
    """

    def __init__(
        self,
        mask: Callable[[str], Tensor | None],
        progress: Callable[[int], None] = lambda count: None,
        piece: int = PIECE,
    ) -> None:
        self._mask, self._progress, self._piece = mask, progress, piece
        self.zeros: dict[str, int] = {}

    def pieces(self, name: str, tensor: Tensor) -> Iterator[memoryview]:
        """Yield the bytes of a tensor in flat order; each piece is valid until the next one is asked for."""
        mask = self._mask(name)
        flat = tensor.detach().contiguous().view(-1)
        for start in range(0, flat.numel(), self._piece):
            piece = flat[start : start + self._piece]
            if mask is not None:
                piece = _masked(piece, mask[start // 8 : start // 8 + -(-piece.numel() // 8)])
                self.zeros[name] = self.zeros.get(name, 0) + _zeros(piece)
            found = piece.view(torch.uint8).numpy().data
            yield found
            self._progress(len(found))


def _masked(piece: Tensor, bits: Tensor) -> Tensor:
    """Return a copy with zeros for the weights whose bits are clear."""
    from gpmt.core.keys.key_loops import zero_pruned  # numba takes long to import

    piece = piece.clone()
    zero_pruned(piece, bits.numpy())
    return piece


def _zeros(piece: Tensor) -> int:
    """Count the zeros of floats, of either sign, by their bits: PyTorch takes twelve times as long with halves."""
    bits = piece.view(torch.uint8).numpy().view(f"u{piece.element_size()}")
    return piece.numel() - int(np.count_nonzero(bits << 1))  # without the sign
