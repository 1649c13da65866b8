"""Movement scores: whether training moves a weight away from zero or towards it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gpmt.calibration.gradients import accumulators
from gpmt.calibration.prunable import prunable
from gpmt.core.patterns import Patterns
from gpmt.errors import ScoresError
from gpmt.pruner.optimizers import after_each_evaluation, as_optimizers, check_trained, stepping
from gpmt.pruner.step_counter import StepCounter
from gpmt.scores.files import check_fit
from gpmt.torch_private import is_inner_step, support_step_hooks

VERSION = 1


class Movement:
    """Adds up −w · g over the steps of an optimiser, with g the gradient of the loss that the step uses.

    From Sanh et al. 2020 (arXiv 2005.07683, section 4). The scores are *signed*: a weight that training moves away
    from zero scores positive, one that shrinks scores negative and is pruned first, however large it is. They are
    for fine-tuning a network that is trained already; where training is from scratch, all weights move away from
    zero. The paper adds up over the whole schedule, also for weights that are pruned for the time being; a weight
    that gpmt's Pruner holds at zero adds nothing.

    Every step counts alike, whatever its learning rate. The gradients are those that the step finds: clipped where
    you clip, averaged over ranks with DDP, unscaled under a `GradScaler`, whose skipped steps add nothing.

    Args:
        model: the network, also inside wrappers such as `DistributedDataParallel`.
        optimizer: what trains it: a `torch.optim.Optimizer`, also as Accelerate or Lightning wraps it, or a list.
        scope: patterns that choose the tensors, as in `gpmt.find_scope`.
        exclude: patterns of tensors to leave out.

    Raises:
        ScoresError: not a network.
        ScopeError: `optimizer` is not one, or trains none of the tensors; otherwise as from `gpmt.find_scope`.

    Attributes:
        step_count: steps that were added up.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, -1.0]]))
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> movement = Movement(layer, optimizer)
    >>> layer(torch.tensor([[2.0, 3.0]])).sum().backward()
    >>> optimizer.step()
    >>> movement.scores()
    {'weight': tensor([[-2.,  3.]])}
    >>> from gpmt.prune import prune_
    >>> prune_(layer, sparsity=0.5, scores=movement.scores()).masks()["weight"]
    tensor([[False,  True]])
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        scope: Patterns | None = None,
        exclude: Patterns | None = (),
    ) -> None:
        _, found = prunable(model, scope, exclude)
        self._weights = found.tensors
        optimizers = as_optimizers(optimizer)
        check_trained(self._weights, optimizers)
        self._sums = accumulators(self._weights)
        self._steps = StepCounter()
        self._handles = []
        for index, one in enumerate(optimizers):
            part = stepping(one)[0]
            support_step_hooks(part)
            hook = torch.compiler.disable(partial(self._before_step, index == 0))  # type: ignore[no-untyped-call]
            self._handles.append(part.register_step_pre_hook(hook))

    @property
    def step_count(self) -> int:
        """Steps that were added up; reading it waits for the device where a `GradScaler` may have skipped one."""
        return self._steps.read()

    def scores(self) -> dict[str, Tensor]:
        """Return name -> signed scores so far: a copy, float32 (float64 for float64 weights), on the weight's device.

        Raises `ScoresError` before the first step, and where gradients were NaN or infinite.
        """
        if not self.step_count:
            raise ScoresError(
                "no step of the optimizer was recorded, so there are no movement scores; train first, or load a state"
            )
        for name, total in self._sums.items():
            if not bool(torch.isfinite(total).all()):
                raise ScoresError(
                    f"the movement of {name} is NaN or infinite, as its gradients were; train with smaller steps, or "
                    "with a GradScaler, and record anew"
                )
        return {name: total.to(self._weights[name].device, copy=True) for name, total in self._sums.items()}

    def close(self) -> None:
        """Take the hooks off the optimisers; the scores stay."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def state_dict(self) -> dict[str, Any]:
        """Return steps and scores so far: plain values and tensors, fit for safe loading by `torch.load`."""
        sums = {name: total.clone() for name, total in self._sums.items()}
        return {"version": VERSION, "step_count": self.step_count, "scores": sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises `ScoresError`, with nothing changed, for another kind of state, and for one of other tensors.
        """
        if state.get("version") != VERSION or not {"step_count", "scores"} <= state.keys():
            raise ScoresError(
                f"the state has version {state.get('version')} and keys {sorted(state)}, but this gpmt loads version "
                f"{VERSION} of what Movement.state_dict() returns"
            )
        check_fit(state["scores"], self._sums, "the state")
        for name, total in self._sums.items():
            total.copy_(state["scores"][name])
        self._steps = StepCounter(state["step_count"])

    def _before_step(
        self, counts: bool, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if is_inner_step(optimizer):
            return None
        if kwargs.get("closure", args[1] if len(args) > 1 else None) is not None:
            return after_each_evaluation(args, kwargs, lambda: self._add(counts, optimizer))
        self._add(counts, optimizer)
        return None

    @torch.no_grad()
    def _add(self, counts: bool, optimizer: Optimizer) -> None:
        # A GradScaler leaves both with a fused optimiser, which unscales and skips by itself.
        scale, found_inf = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        trained = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        for name, weight in self._weights.items():
            if id(weight) not in trained or weight.grad is None:
                continue
            total = self._sums[name] = self._sums[name].to(weight.device)
            movement = weight.grad.to(total.dtype) * weight.to(total.dtype)
            if scale is not None:
                movement.div_(scale)
            if found_inf is not None:
                movement.masked_fill_(torch.as_tensor(found_inf, device=movement.device) != 0, 0)
            total.sub_(movement)
        if counts:
            self._steps.add(found_inf)
