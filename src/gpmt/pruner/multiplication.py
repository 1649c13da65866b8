"""The multiplicative step of HAM: weights times a factor that their gradient decides, in place and in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpmt.core.shards import local
from gpmt.pruner.enforcement import CHUNK
from gpmt.torch_private import (
    foreach_add_,
    foreach_clamp_max_,
    foreach_clamp_min_,
    foreach_exp_,
    foreach_mul_,
    foreach_sign,
)

DEVICE_CHUNK = 1 << 22
"""Weights to multiply at a time on other devices than CPUs: few kernels, for 16 MiB of memory."""


@dataclass(frozen=True)
class Factor:
    """The factor exp(η · (−alpha · sign(w) · g − beta)) of one tensor, its exponent within ±clip.

    Attributes:
        weight: w, of any floating type.
        gradient: g, in the shape of w.
        rate: η; a tensor of one element on a device is not waited for.
        alpha: how strongly the gradient counts.
        beta: the decay.
        clip: the largest absolute exponent.
    """

    weight: Tensor
    gradient: Tensor
    rate: float | Tensor
    alpha: float
    beta: float
    clip: float


@torch.no_grad()
def multiply_(factors: Sequence[Factor], *, skipped: Tensor | None = None) -> None:
    """Multiply weights by their factors, in place; what lies between takes the memory of one chunk.

    Args:
        factors: one for each weight.
        skipped: what is not 0 where the step was skipped, so that nothing must change; it is not waited for.

    >>> weight = torch.tensor([1.0, -1.0, 0.0])
    >>> multiply_([Factor(weight, torch.tensor([-1.0, -1.0, -1.0]), 0.1, alpha=2.0, beta=0.0, clip=0.1)])
    >>> weight
    tensor([ 1.1052, -0.9048,  0.0000])
    """
    for chunk in _chunks(factors):
        weights = [part.weight for part in chunk]
        exponents = list(foreach_sign(weights))
        foreach_mul_(exponents, [part.gradient for part in chunk])
        foreach_mul_(exponents, [-part.alpha for part in chunk])
        foreach_add_(exponents, [-part.beta for part in chunk])
        for exponent, part in zip(exponents, chunk, strict=True):
            if isinstance(part.rate, Tensor):
                exponent.mul_(part.rate)
        foreach_mul_(exponents, [1.0 if isinstance(part.rate, Tensor) else part.rate for part in chunk])
        foreach_clamp_min_(exponents, [-part.clip for part in chunk])
        foreach_clamp_max_(exponents, [part.clip for part in chunk])
        foreach_exp_(exponents)
        if skipped is not None:
            lost = (skipped.sum() != 0).to(weights[0].device)
            for exponent in exponents:
                exponent.masked_fill_(lost, 1.0)
        foreach_mul_(weights, exponents)


def _chunks(factors: Sequence[Factor]) -> Iterator[list[Factor]]:
    """Yield parts that are multiplied at a time: of one device and type, at most a chunk long."""
    waiting: dict[tuple[torch.device, torch.dtype], list[Factor]] = {}
    lengths: dict[tuple[torch.device, torch.dtype], int] = {}
    for part in _parts(factors):
        key, length = (part.weight.device, part.weight.dtype), part.weight.numel()
        if key in waiting and lengths[key] + length > _limit(part.weight):
            yield waiting.pop(key)
        if key not in waiting:
            waiting[key], lengths[key] = [], 0
        waiting[key].append(part)
        lengths[key] += length
    yield from waiting.values()


def _parts(factors: Iterable[Factor]) -> Iterator[Factor]:
    """Yield the local part of each tensor, divided by rows where it is longer than a chunk."""
    for factor in factors:
        weight = local(factor.weight).detach()
        gradient = local(factor.gradient).detach().to(weight.dtype)
        if not weight.numel():
            continue
        rows = max(1, _limit(weight) * len(weight) // weight.numel())
        for some, slopes in zip(torch.split(weight, rows), torch.split(gradient, rows), strict=True):
            yield Factor(some, slopes, factor.rate, factor.alpha, factor.beta, factor.clip)


def _limit(weight: Tensor) -> int:
    return CHUNK if weight.is_cpu else DEVICE_CHUNK
