"""The hooks by which a Pruner follows the steps of its optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gpmt.pruner.optimizers import reevaluates, stepping
from gpmt.torch_private import step_hooks, support_step_hooks


def attach(
    owner: object,
    optimizers: Sequence[Optimizer],
    *,
    before: Callable[..., Any],
    before_evaluations: Callable[..., Any],
    after: Callable[..., Any],
    after_other: Callable[..., Any],
) -> list[RemovableHandle]:
    """Put hooks of an owner on its optimisers: `after` on the one whose steps count, `after_other` on the rest.

    `before` comes before each step; `before_evaluations` before those of optimisers that call their closure at
    several points within one step.
    """
    handles = []
    for index, optimizer in enumerate(optimizers):
        for place, part in enumerate(stepping(optimizer)):
            support_step_hooks(part)
            counts = index == place == 0
            handles.append(part.register_step_post_hook(_hook(owner, after if counts else after_other)))
            handles.append(part.register_step_pre_hook(_hook(owner, before)))
            if reevaluates(part):
                handles.append(part.register_step_pre_hook(_hook(owner, before_evaluations)))
    return handles


def owners(optimizers: Sequence[Optimizer]) -> Iterator[object]:
    """Yield the owner of each hook that `attach` has put on these optimisers."""
    for part in (part for optimizer in optimizers for part in stepping(optimizer)):
        for hook in (step_hooks(part) or {}).values():
            if (owner := getattr(hook, "owner", None)) is not None:
                yield owner


def _hook(owner: object, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as a hook that torch.compile leaves alone, and that tells its owner."""
    hook: Any = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    hook.owner = owner
    found: Callable[..., Any] = hook
    return found
