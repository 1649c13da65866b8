"""The processes that train one model have to have the same masks."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpmt.core.shards import is_shared, local, naming_missing_backend, process_groups
from gpmt.errors import MaskError
from gpmt.masks import Masks
from gpmt.model_tools import unwrap
from gpmt.pruner.enforcement import pruned_weight


class Agreement:
    """Checks that the processes which train one model, sharded or as copies, have the same masks."""

    def __init__(self, model: nn.Module) -> None:
        self._replica = find_replica(model)
        self._checked: list[Any] = []

    def check(self, masks: Masks, model: nn.Module) -> None:
        """Raise `MaskError` on every rank where the masks of two ranks differ."""
        weights = [pruned_weight(model, name) for name in masks]
        self._checked = self._groups(weights)
        check_ranks_agree(masks, weights, self._checked)

    def needed(self, model: nn.Module) -> bool:
        """Whether several processes train the network."""
        return self._replica is not None or any(is_shared(parameter) for parameter in model.parameters())

    def check_if_wrapped(self, masks: Masks, model: nn.Module) -> None:
        """Check masks that were found before the model was wrapped or sharded."""
        self._replica = self._replica or find_replica(model)
        if self._groups([pruned_weight(model, name) for name in masks]) != self._checked:
            self.check(masks, model)

    def _groups(self, weights: Sequence[Tensor]) -> list[Any]:
        """Return the process groups that train these weights."""
        return process_groups(weights) + ([] if self._replica is None else [self._replica.process_group])


def find_replica(model: nn.Module) -> DistributedDataParallel | None:
    """Return the wrapper by which several processes train copies of a model, inside of it or around it.

    A model does not know of a wrapper around it, so that one is looked for among all objects.
    """
    inside = next((part for part in model.modules() if isinstance(part, DistributedDataParallel)), None)
    if (
        inside is not None
        or not dist.is_available()
        or not dist.is_initialized()
        or dist.get_world_size() == 1
    ):
        return inside
    plain = unwrap(model)
    wrappers = [thing for thing in gc.get_objects() if issubclass(type(thing), DistributedDataParallel)]
    return next((wrapper for wrapper in wrappers if unwrap(wrapper) is plain), None)


def check_ranks_agree(masks: Masks, weights: Sequence[Tensor], groups: Sequence[Any]) -> None:
    """Raise `MaskError` on every rank where the masks of two ranks differ; only a checksum is sent.

    `weights` are those that the masks are for, and `groups` the process groups that train them.
    """
    if not groups:
        return
    digest = torch.tensor(list(bytes.fromhex(masks.digest())), device="cpu")
    # The digests are equal if and only if, for each byte, max(byte) = min(byte) = −max(−byte).
    largest = torch.stack([digest, -digest]).to(local(weights[0]).device)
    for group in groups:
        with naming_missing_backend():
            dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
    if not torch.equal(largest[0], -largest[1]):
        raise MaskError(
            "the masks differ between the ranks, because their weights or settings do; load the same weights on "
            "every rank, wrap or shard the model before making the Pruner, and give every rank the same settings"
        )
