"""A state_dict as compressed sparse rows or columns: to the tensors of torch.sparse, and back.

Every prunable tensor becomes a matrix [n, the rest], n being its first dimension: [out, in · k · k] of a convolution.
A tensor of other than two dimensions has a further entry, its name and ".shape": its own shape, int64 [dimensions].
The other tensors stay as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Literal

import torch
from torch import Tensor

from gpmt.core.missing_data import check_has_data
from gpmt.core.scope.scope import find_scope
from gpmt.errors import CheckpointError, MaskError
from gpmt.formats.bits import SignedZeros, keeps_signs, nonzero
from gpmt.masks import Masks

SHAPE = ".shape"
"""What is added to a tensor's name for the entry with its shape."""

Layout = Literal["csr", "csc"]

_LAYOUTS = {torch.sparse_csr: "csr", torch.sparse_csc: "csc"}
# A matrix with more weights than this for each stored index is taken for a damaged one, not for a sparse one.
_MAX_WEIGHTS_PER_INDEX = 2**20


def to_csr(
    state_dict: Mapping[str, Tensor], masks: Masks | None = None, *, signed_zeros: SignedZeros = "drop"
) -> dict[str, Tensor]:
    """Return a state_dict with the prunable tensors as compressed sparse rows, and the shapes of those not 2-D.

    Entries of a matrix are the weights that its mask keeps, zeros among them; without masks, the weights that are not
    zero. The sign of -0.0, which ``weight * mask`` leaves of what it prunes, is dropped unless it is asked for.
    Indices are int32 where they fit, else int64. Tied tensors stay tied.

    Args:
        state_dict: name -> tensor.
        masks: which tensors become sparse, and their entries; by default everything prunable.
        signed_zeros: "drop", or "keep": -0.0 is an entry, so that all bits come back.

    Raises:
        MaskError: masks of another network, or that prune a weight that is not zero, or -0.0 where it is to be kept.
        ScopeError: nothing is prunable.
        WeightsError: a tensor without data.

    >>> sparse = to_csr({"fc.weight": torch.tensor([[0.0, 2.0], [0.0, 0.0]])})
    >>> sparse["fc.weight"].col_indices(), sparse["fc.weight"].values()
    (tensor([1], dtype=torch.int32), tensor([2.]))
    """
    return compress(state_dict, masks, "csr", signed_zeros)[0]


def to_csc(
    state_dict: Mapping[str, Tensor], masks: Masks | None = None, *, signed_zeros: SignedZeros = "drop"
) -> dict[str, Tensor]:
    """Return a state_dict with the prunable tensors as compressed sparse columns; see `to_csr`."""
    return compress(state_dict, masks, "csc", signed_zeros)[0]


def from_csr(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the dense state_dict of what `to_csr` or `to_csc` made: the same names, shapes and values.

    Raises `CheckpointError` for an entry that is damaged.
    """
    dense: dict[str, Tensor] = {}
    made: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        base = name.removesuffix(SHAPE)
        if base != name and base in tensors and tensors[base].layout != torch.strided:
            continue
        if tensor.layout == torch.strided:
            dense[name] = tensor
            continue
        if id(tensor) not in made:
            made[id(tensor)] = _dense(name, tensor, tensors.get(name + SHAPE))
        dense[name] = made[id(tensor)]
    return dense


def index_dtype(largest: int) -> torch.dtype:
    """Return int32 if the largest of a matrix's sizes and its number of entries fits into that, else int64."""
    return torch.int32 if largest <= torch.iinfo(torch.int32).max else torch.int64


def compress(
    state_dict: Mapping[str, Tensor], masks: Masks | None, layout: Layout, signed_zeros: SignedZeros = "drop"
) -> tuple[dict[str, Tensor], int]:
    """Do what `to_csr` or `to_csc` does, as `layout` says; return also how many -0.0 are not entries."""
    keep_signs, dropped = keeps_signs(signed_zeros), 0
    check_has_data(state_dict)
    if masks is not None:
        masks.fits(state_dict)
    scope = find_scope(state_dict, scope=None if masks is None else list(masks))
    first = {other: name for name, others in scope.aliases.items() for other in others}
    compressed: dict[str, Tensor] = {}
    made: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        key = first.get(name, name)
        if key not in scope.tensors:
            compressed[name] = tensor.detach()
            continue
        if key not in made:
            mask = masks[key] if masks is not None and key in masks else None
            tensor = tensor.detach().cpu()
            keep = _entries(name, tensor, mask, keep_signs)
            dropped += int((_nonzero(tensor, True) & ~keep).count_nonzero())
            made[key] = _sparse(tensor, keep, layout)
        compressed[name] = made[key]
        if tensor.ndim != 2:
            if name + SHAPE in state_dict:
                raise CheckpointError(
                    f"{name + SHAPE} is a tensor, but is to hold the shape of {name}; rename it"
                )
            compressed[name + SHAPE] = torch.tensor(tensor.shape, device="cpu")
    return compressed, dropped


def _nonzero(tensor: Tensor, signed_zeros: bool) -> Tensor:
    return torch.from_numpy(nonzero(tensor.contiguous(), signed_zeros=signed_zeros)).view(tensor.shape)


def _entries(name: str, tensor: Tensor, mask: Tensor | None, keep_signs: bool) -> Tensor:
    """Return which weights are entries (bool). Raises `MaskError` where the mask prunes one that has to be."""
    needed = _nonzero(tensor, keep_signs)
    if mask is None:
        return needed
    if revived := int((needed & ~mask).count_nonzero()):
        signed = " or are −0.0" if keep_signs else ""
        raise MaskError(
            f"{revived:,} weights of {name} are not zero{signed} though its mask prunes them; apply the masks first"
        )
    return mask


def _sparse(tensor: Tensor, keep: Tensor, layout: Layout) -> Tensor:
    matrix, keep = tensor.reshape(len(tensor), -1), keep.reshape(len(tensor), -1)
    shape = matrix.shape
    if layout == "csc":
        matrix, keep = matrix.T, keep.T
    lines, entries = keep.nonzero(as_tuple=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64, device="cpu"), keep.sum(dim=1).cumsum(0)])
    index = index_dtype(max(*shape, len(entries)))
    return _build(starts, entries, matrix[lines, entries], shape, layout, index)


def _build(
    starts: Tensor, entries: Tensor, values: Tensor, shape: torch.Size, layout: str, index: torch.dtype
) -> Tensor:
    make = torch.sparse_csr_tensor if layout == "csr" else torch.sparse_csc_tensor
    with quiet():
        return make(
            starts.to(index),
            entries.to(index),
            values,
            size=shape,
            device=values.device,
            check_invariants=True,
        )


def _dense(name: str, tensor: Tensor, shape: Tensor | None) -> Tensor:
    layout = _LAYOUTS.get(tensor.layout)
    if layout is None or tensor.ndim != 2:
        raise CheckpointError(
            f"{name} has layout {tensor.layout} and {tensor.ndim} dimensions, but must be a matrix in "
            "torch.sparse_csr or sparse_csc; make it with to_csr"
        )
    if layout == "csr":
        starts, entries = tensor.crow_indices(), tensor.col_indices()
    else:
        starts, entries = tensor.ccol_indices(), tensor.row_indices()
    listed = tensor.shape if shape is None else shape.tolist()
    sizes = tuple(listed) if isinstance(listed, Sequence) else (listed,)
    fits = all(isinstance(size, int) and size >= 0 for size in sizes) and prod(sizes) == tensor.shape.numel()
    if not fits or tensor.shape.numel() > _MAX_WEIGHTS_PER_INDEX * (len(starts) + len(entries)):
        raise CheckpointError(
            f"{name} claims the shape {list(sizes)} for a matrix of {list(tensor.shape)} with {len(entries):,} "
            "entries; the file is damaged, write it again"
        )
    try:
        _build(starts, entries, tensor.values(), tensor.shape, layout, starts.dtype)
    except RuntimeError as error:
        raise CheckpointError(f"{name} is damaged ({str(error).strip()}); write the file again") from None
    matrix = torch.zeros(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    lines = torch.arange(len(starts) - 1, device=starts.device).repeat_interleave(starts.diff())
    (matrix if layout == "csr" else matrix.T)[lines, entries.long()] = tensor.values()
    return matrix.reshape(sizes)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress PyTorch's warnings that sparse tensors are in beta, and that it checks those it reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Sparse CS[RC] tensor support is in beta", UserWarning)
        warnings.filterwarnings("ignore", r"Validating sparse tensor invariants", UserWarning)
        yield
