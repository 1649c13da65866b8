"""Tensors that are laid out, and shared by processes, as a parameter is; and how often parameters were written to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpmt.core.shards import is_shared, local, local_part
from gpmt.core.soft.soft_thresholds import in_loops
from gpmt.torch_private import write_count


def written(weight: Tensor) -> tuple[int, int | None]:
    """Return which tensor this is, and how often it was written to."""
    return id(weight), write_count(local(weight.detach()))


def alike(weight: Tensor, dense: Tensor) -> bool:
    """Whether two tensors have one type, device and way to be shared by processes."""
    if is_shared(weight) != is_shared(dense) or (weight.dtype, weight.device) != (dense.dtype, dense.device):
        return False
    layout: Any = weight
    return not is_shared(weight) or (layout.device_mesh, layout.placements) == (
        getattr(dense, "device_mesh", None),
        getattr(dense, "placements", None),
    )


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a copy of a whole tensor, with the type, device and layout of another, shared as that is."""
    copy = torch.empty_like(like.detach())
    with torch.no_grad():
        local(copy).copy_(shared_as(tensor, like))
    return copy


def shared_as(tensor: Tensor, like: Tensor) -> Tensor:
    """Return the part of a whole tensor that belongs to this process's part of another."""
    return local_part(tensor.to(like.device), like)


def copy_into(source: Tensor, target: Tensor) -> None:
    """Write one tensor into another that is laid out alike."""
    ours, theirs = local(source.detach()), local(target.detach())
    if in_loops(ours) and in_loops(theirs):
        np.copyto(theirs.numpy(), ours.numpy())  # of small tensors PyTorch's threads would take longer
        count_write(target)
    else:
        theirs.copy_(ours)


def count_write(tensor: Tensor) -> None:
    """Let autograd know of what was written past it."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)
