"""Compressed sparse rows or columns as a file of torch.save, for code that multiplies by them."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from gpmt.atomic import atomic_path
from gpmt.errors import CheckpointError
from gpmt.formats.bits import SignedZeros, same_bits
from gpmt.formats.torch_sparse import Layout, compress, from_csr, quiet
from gpmt.masks import Masks


def export_csr(
    state_dict: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    masks: Masks | None = None,
    layout: Layout = "csr",
    signed_zeros: SignedZeros = "drop",
) -> int:
    """Write what `to_csr` or `to_csc` returns as a file of torch.save, atomically, and read it back.

    ``from_csr(torch.load(path, weights_only=True))`` is the dense state_dict again. Returns how many weights of -0.0
    are read back as 0.0. Raises as `to_csr` does, and `CheckpointError` where the file cannot be written.
    """
    tensors, dropped = compress(state_dict, masks, layout, signed_zeros)
    with atomic_path(path) as temporary, quiet():
        torch.save(tensors, temporary)
        with torch.device("cpu"):  # it would read into another default device
            again = from_csr(torch.load(temporary, weights_only=True))
        for name, tensor in from_csr(tensors).items():
            if not same_bits(again[name], tensor):
                raise CheckpointError(
                    f"{path} reads back other values of {name}; nothing was written, try again"
                )
    return dropped
