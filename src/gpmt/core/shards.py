"""Tensors that several processes share (`DTensor`, as FSDP2 makes parameters): the whole, and a process's part.

A tensor that is not shared is its own whole and its own part. Sharing is told by the methods of a `DTensor`, so that
nothing of `torch.distributed` is imported where nothing is shared.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from gpmt.errors import WeightsError

BACKENDS = "cpu:gloo,cuda:nccl"
"""What `init_process_group` needs where weights are on a CPU and training is on GPUs."""


def is_shared(tensor: Tensor) -> bool:
    """Whether a tensor is a `DTensor`, of which each process holds a part."""
    return hasattr(tensor, "to_local")


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor:
    """Return all of a shared tensor, a copy on the CPU; any other tensor as it is.

    The processes send their parts to one another, so all of them have to call this, in the same order. Raises
    `WeightsError` where they cannot send tensors of this device.
    """
    if not is_shared(tensor) or tensor.is_meta:
        return tensor
    with naming_missing_backend():
        gathered: Tensor = cast(Any, tensor).full_tensor()
    return gathered.cpu()


@contextmanager
def naming_missing_backend() -> Iterator[None]:
    """Raise `WeightsError` where a block sends tensors of a device for which the processes have no backend."""
    try:
        yield
    except RuntimeError as error:
        device = re.search(r"No backend type associated with device type (\w+)", str(error))
        if device is None:
            raise
        raise WeightsError(
            f"the weights are on {device[1]}, as with FSDP2's CPU offload, but the processes have no backend that "
            f"sends such tensors; start them with init_process_group({BACKENDS!r})"
        ) from None


def local(tensor: Tensor) -> Tensor:
    """Return the part of a shared tensor that this process holds, in the same memory; it may be empty."""
    if not is_shared(tensor):
        return tensor
    with torch.no_grad():
        part: Tensor = cast(Any, tensor).to_local()
    return part


def local_part(mask: Tensor, like: Tensor) -> Tensor:
    """Return the part of `mask`, which every process has whole, that belongs to `local(like)`; nothing is sent."""
    if not is_shared(like):
        return mask
    from torch.distributed.tensor import distribute_tensor

    shared = cast(Any, like)
    return local(distribute_tensor(mask, shared.device_mesh, shared.placements, src_data_rank=None))


def process_groups(tensors: Iterable[Tensor]) -> list[Any]:
    """Return the process groups that share `tensors`, each once, in an order that all processes have."""
    meshes = dict.fromkeys(cast(Any, tensor).device_mesh for tensor in tensors if is_shared(tensor))
    return list(dict.fromkeys(group for mesh in meshes for group in mesh.get_all_groups()))


def reshard(model: nn.Module) -> None:
    """Have FSDP2 show every parameter as its shard, which is trained.

    After an evaluation, for example, modules may still hold the whole tensors that a forward pass gathered.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:  # nobody has sharded anything
        return
    for module in model.modules():
        if isinstance(module, fsdp.FSDPModule):
            module.reshard()
