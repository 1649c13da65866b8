"""The processes that train one model have to have the same masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gpmt.core.shards import local, naming_missing_backend, process_groups
from gpmt.errors import MaskError
from gpmt.masks import Masks


def check_ranks_agree(
    masks: Masks, weights: Sequence[Tensor], replica: DistributedDataParallel | None
) -> None:
    """Raise `MaskError` on every rank where the masks of two ranks differ; only a checksum is sent.

    `weights` are those that the masks are for, sharded or not; `replica` is this rank's copy of a replicated model.
    """
    groups = process_groups(weights)
    if replica is not None:
        groups.append(replica.process_group)
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
