"""The order of samples, the shares of several processes, balanced subsets, and seeds."""

import numpy as np
import torch
from torch import Tensor


def shares(count: int, batch_size: int, *, rank: int, processes: int) -> list[slice]:
    """Return the positions in an epoch of `count` samples that process `rank` takes, one slice a batch.

    A last batch too small to give every process two samples is left out: batch normalisation needs
    two, and all processes need the same number of batches.

    >>> shares(10, 8, rank=1, processes=2), shares(12, 8, rank=1, processes=2)
    ([slice(4, 8, None)], [slice(4, 8, None), slice(10, 12, None)])
    """
    parts = []
    for start in range(0, count, batch_size):
        share = min(batch_size, count - start) // processes
        if share >= 2:
            parts.append(slice(start + rank * share, start + (rank + 1) * share))
    return parts


def fixed_order(count: int) -> Tensor:
    """Return a permutation of `count` positions that is always the same."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0), device="cpu")


def balanced_subset(labels: Tensor, count: int) -> Tensor:
    """Choose `count` samples by their labels [n], as evenly over the classes as possible, always the same ones.

    Returns their positions in rising order.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    >>> labels[balanced_subset(labels, 5)].tolist()
    [0, 0, 1, 1, 2]
    """
    order = fixed_order(len(labels))
    shuffled = labels[order]
    grouped = torch.argsort(shuffled, stable=True)
    sizes = torch.bincount(shuffled)
    # The first of every class come first, then the second of every class, and so on; a short class drops out.
    turn = torch.empty_like(order)
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    turn[grouped] = torch.arange(len(labels), device="cpu") - first
    return order[torch.argsort(turn, stable=True)[:count]].sort().values


def mix_seed(seed: tuple[int, ...]) -> int:
    """Return one well-mixed 64-bit seed made of several small integers."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
