"""Optimisers inside others."""

from __future__ import annotations

from torch.optim import Optimizer

from gpmt.torch_private import step_hooks


def unwrap_optimizer(optimizer: Optimizer) -> Optimizer:
    """Return the optimiser inside a wrapper (Accelerate's), which has no hooks of its own."""
    while step_hooks(optimizer) is None and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def with_inner(optimizer: Optimizer) -> list[Optimizer]:
    """Return an optimiser and the one it keeps its state in: ZeroRedundancyOptimizer's, or timm's Lookahead's."""
    inner = (getattr(optimizer, name, None) for name in ("optim", "_base_optimizer"))
    return [optimizer, *(other for other in inner if isinstance(other, Optimizer))]
