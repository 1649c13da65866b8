"""Masks that are stored beside their weights: checked, and applied."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpmt.core.memory import identity
from gpmt.errors import CheckpointError
from gpmt.formats.checkpoint import Checkpoint
from gpmt.masks import Masks

_AGAIN = "save the file again with the tool that wrote it"
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DTYPES = (*_FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
# Under these names training scripts, Lightning and fastai keep the state of their optimisers.
OPTIMIZERS = ("optimizer", "optimizer_state_dict", "optimizer_state", "optimizer_states", "optim", "opt")


def read_mask(path: Path, name: str, mask: Tensor, weight: Tensor) -> Tensor:
    """Return a stored mask as bool, True = kept, [shape of its weight].

    Raises `CheckpointError` for a mask of another shape and for values other than 0 and 1.
    """
    check_plain(path, name, mask)
    if mask.shape != weight.shape:
        raise CheckpointError(
            f"{path}: {name} has shape {list(mask.shape)}, but its weight has {list(weight.shape)}; {_AGAIN}"
        )
    kept = mask == 1
    odd = ~kept & (mask != 0)
    if odd.any():
        value = mask[odd][0].item()
        raise CheckpointError(
            f"{path}: {name} holds the value {value:g}, but a mask holds only 0 and 1; {_AGAIN}"
        )
    return kept


def check_plain(path: Path, name: str, tensor: Tensor) -> None:
    """Raise `CheckpointError` unless a tensor is dense, on the CPU, and has memory for each of its elements."""
    if is_plain(tensor):
        return
    if not _is_dense(tensor):
        kind = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
        raise CheckpointError(f"{path}: {name} is not a plain tensor ({kind}); save it as one")
    raise CheckpointError(
        f"{path}: {name} claims {tensor.numel():,} elements, but holds fewer; save it as a plain tensor"
    )


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, and has memory for each of its elements."""
    # Strides of 0 let a file of a few bytes claim any shape; what is computed from it would be that large.
    return _is_dense(tensor) and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def prune_stored(
    checkpoint: Checkpoint,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    source: str,
    by_module: bool = False,
    container: dict[str, Any] | None = None,
) -> Checkpoint:
    """Return a checkpoint of plain weights and their masks; what the masks prune becomes +0.0.

    Tied names (the same memory) stay tied. The mask of a tensor is stored under the first of its names.

    Args:
        checkpoint: what was read; it and its tensors stay as they are.
        weights: plain name -> tensor as stored, in the order of the network.
        masks: plain name -> bool, True = kept, [shape of the weight]; may be empty.
        source: what wrote the file.
        by_module: whether a mask is in force only in the module that has it, so that other names of the same
            tensor need the same mask. If not, it is in force for the tensor, whatever name is used.
        container: the entries around the weights, where they are no longer those that were read.

    Raises `CheckpointError` where tied names are masked differently.
    """
    groups: dict[Hashable, list[str]] = {}
    for name, tensor in weights.items():
        groups.setdefault(identity(tensor), []).append(name)
    state_dict, kept = dict(weights), {}
    for names in groups.values():
        masked = [name for name in names if name in masks]
        if not masked:
            continue
        stored = weights[names[0]]
        check_plain(checkpoint.path, names[0], stored)
        if by_module:
            _check_equal(checkpoint.path, names, masks)
        mask = masks[masked[0]]
        for name in masked[1:]:
            mask = mask & masks[name]
        pruned = stored.detach().masked_fill(~mask, 0)
        state_dict.update(dict.fromkeys(names, pruned))
        kept[names[0]] = mask
    return replace(
        checkpoint,
        state_dict=state_dict,
        container=checkpoint.container if container is None else container,
        original={},
        masks=Masks.from_dense(kept) if kept else None,
        source=source,
    )


def without(container: Mapping[str, Any] | None, *names: str) -> dict[str, Any] | None:
    """Return a container without some of its entries, in a new mapping; None stays None."""
    return None if container is None else {key: value for key, value in container.items() if key not in names}


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.dtype in _DTYPES


def _check_equal(path: Path, names: list[str], masks: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` unless the masks under all names of one tensor are equal."""
    first = masks.get(names[0])
    for name in names[1:]:
        mask = masks.get(name)
        if first is None or mask is None:
            equal = all(one is None or bool(one.all()) for one in (first, mask))
        else:
            equal = torch.equal(first, mask)
        if not equal:
            raise CheckpointError(
                f"{path}: {names[0]} and {name} are one tensor, but pruned differently, which no plain network "
                "can hold; prune both alike, or untie them, and save again"
            )
