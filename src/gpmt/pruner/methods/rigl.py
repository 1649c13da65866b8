"""RigL: where the loss falls fastest, pruned weights grow again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from gpmt.core.schedule.schedule import Schedule
from gpmt.core.shards import whole
from gpmt.errors import MethodError
from gpmt.planning.exchange import Exchange
from gpmt.planning.options import PlanOptions
from gpmt.pruner.methods.dynamic import Dynamic, DynamicRule
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.optimizers import reevaluates
from gpmt.pruner.trained_network import TrainedNetwork


@dataclass(frozen=True)
class RigL(Dynamic):
    """Sparse from the start; every `interval` steps the smallest weights go, and those of large gradients come.

    Of the n weights that a block keeps, floor(share · n) are dropped, the smallest; then as many of all that are not
    kept grow, those with the largest |gradient| of the last batch. What was just dropped may return, and keeps its
    value then; all else that grows starts at zero, with no state of the optimiser. The share falls from alpha to 0 by
    half a cosine until `end`. Counts stay exact, and floors hold.

    It goes with any schedule, such as ``gpmt.OneShot(0.9)`` with ``allocation="erk"`` on a network that is not
    trained, and with given masks. Unlike the published method, the step of the optimiser is taken as well where
    weights are exchanged. Tensors without a gradient stay as they are. An update that falls on a step which was left
    out for infinite gradients is done after the next one.

    Source: Evci et al. 2020, arXiv 1911.11134.

    Args:
        alpha: the share that the first updates exchange, between 0 and 1.
        interval: steps of the optimiser between updates; by default 100, and in short trainings of a recipe so few
            that there are 30 updates.
        end: the step from which on masks stay; a recipe sets it to three quarters of the training.
        anneal: "cosine", or "constant" for the same share at every update.
        across: "tensor" exchanges within each block, whose count stays; "network" compares the weights of all blocks,
            and then their gradients, so that counts move from one to another, down to the floors.

    Raises:
        MethodError: a setting out of range.

    >>> method = RigL(end=1000)
    >>> [round(method.share(step), 3) for step in (100, 500, 900)], method.last
    ([0.293, 0.15, 0.007], 900)
    """

    name: ClassVar[str] = "rigl"

    def check(self, schedule: Schedule | None, optimizers: Sequence[Optimizer], options: PlanOptions) -> None:
        """Raise `MethodError` as for all such methods, and for optimisers that see no gradients of pruned weights."""
        super().check(schedule, optimizers, options)
        for optimizer in filter(reevaluates, optimizers):
            raise MethodError(
                f"rigl grows weights by their gradients, which are zero for {type(optimizer).__name__} where weights "
                "are pruned; use another optimizer, or the method set"
            )

    def rule(self, network: TrainedNetwork) -> Rule:
        """Return what carries it out."""
        return RigLRule(network, self)


class RigLRule(DynamicRule):
    """Grows weights by the absolute value of their gradients, whatever these are scaled by."""

    def growth(self, exchange: Exchange, step: int) -> dict[str, Tensor] | None:
        """Return the absolute gradients, None where one of them is not finite."""
        found: dict[str, Tensor] = {}
        for name, weight in exchange.found.tensors.items():
            if weight.grad is None:
                continue
            if weight.grad.layout != torch.strided:
                raise MethodError(
                    f"the gradient of {name} is sparse, and rigl needs that of every weight; make its layer with "
                    "sparse=False"
                )
            found[name] = whole(weight.grad.detach()).abs()
            if not bool(torch.isfinite(found[name]).all()):
                return None
        if not found:
            raise MethodError(
                f"rigl grows weights by their gradients, but none of the {len(exchange.found.tensors)} prunable "
                f"tensors, such as {next(iter(exchange.found.tensors))}, has one at step {step:,}; call backward() "
                "before step()"
            )
        return found
