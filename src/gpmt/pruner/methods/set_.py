"""SET, sparse evolutionary training: the smallest weights go, and random ones grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gpmt.allocations.random import random_bits
from gpmt.planning.exchange import Exchange
from gpmt.pruner.methods.dynamic import Dynamic, DynamicRule
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.trained_network import TrainedNetwork

_CHUNK = 1 << 19


@dataclass(frozen=True)
class SET(Dynamic):
    """As `RigL`, but what grows is drawn at random, from the seed of the Pruner and the step.

    The same weights grow on every machine, device and rank. Tensors that are frozen stay as they are.

    Source: Mocanu et al. 2018, arXiv 1707.04780; with the falling share of Evci et al. 2020.

    >>> SET(end=1000, alpha=0.2).to_dict()["alpha"]
    0.2
    """

    name: ClassVar[str] = "set"

    def rule(self, network: TrainedNetwork) -> Rule:
        """Return what carries it out."""
        return SETRule(network, self)


class SETRule(DynamicRule):
    """Grows random weights."""

    def growth(self, exchange: Exchange, step: int) -> dict[str, Tensor]:
        """Return random numbers for the tensors that train."""
        seed = (self.network.options["seed"] << 32) + step
        return {
            name: random_scores(seed, place, weight.shape).to(weight.device)
            for place, (name, weight) in enumerate(exchange.found.tensors.items())
            if weight.requires_grad
        }


def random_scores(seed: int, tensor: int, shape: torch.Size) -> Tensor:
    """Return random float32 numbers in [0, 1), the same on every machine, for the tensor at some place.

    >>> random_scores(0, 0, torch.Size([2])).ge(0).all()
    tensor(True)
    """
    numel = shape.numel()
    scores = torch.empty(numel, dtype=torch.float32, device="cpu")
    for start in range(0, numel, _CHUNK):
        end = min(start + _CHUNK, numel)
        scores[start:end] = (
            random_bits(seed, tensor, start, end) >> 7
        ) / 2**24  # as many bits as float32 holds
    return scores.view(shape)
