"""HAM: after every step of the optimiser, weights are multiplied by a factor that their gradient decides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from gpmt.core.schedule.schedule import Event, Schedule
from gpmt.core.shards import reshard, whole
from gpmt.errors import MethodError
from gpmt.planning.options import PlanOptions
from gpmt.pruner.enforcement import capturing
from gpmt.pruner.methods.hard import Hard
from gpmt.pruner.methods.method import Method
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.multiplication import Factor, multiply_
from gpmt.pruner.optimizers import reevaluates, stepping
from gpmt.pruner.trained_network import TrainedNetwork
from gpmt.torch_private import is_inner_step

STRENGTH = 4.0
"""alpha · |w| of a weight of typical size, by default: about that of ResNet-50 with the published alpha."""
UNSCALING = (Adagrad, Adam, AdamW, SGD)
"""Optimisers that unscale the gradients of a `GradScaler` in place, where they do it themselves."""


@dataclass(frozen=True)
class HAM(Method):
    """Hyperbolic aware minimisation around another method: a multiplicative step after each step of the optimiser.

    Every tensor of two or more dimensions that the optimisers train, pruned or not, becomes
    w · exp(η · (−alpha · sign(w) · g − beta)), with the learning rate η of its group and its gradient g. To first
    order it is one more step of plain gradient descent, at the rate η · alpha · |w|, and a decay of η · beta: large
    weights move faster, and small ones stay small. Weights never change their sign by it, and zeros stay zero.

    The published alpha = 200 is for ResNet-50 at a rate of .256; other networks diverge with it. What matters is
    alpha · |w|, so by default each tensor has the alpha that makes it 4 for a weight of root mean square size at the
    first step, about that of ResNet-50; the weights that are zero do not count. The exponent is clipped.

    Gradients are taken as the step left them. Under a `GradScaler` they are unscaled; a step that it skips changes
    nothing. Optimisers whose groups have no number `lr`, and those that evaluate the loss at several points in a
    step, such as L-BFGS, are refused.

    Source: Jacobs et al. 2025, arXiv 2502.21290 (TomJacobs05/HAM).

    Args:
        alpha: how strongly gradients count, at least 0; None for the one that fits the network, as above.
        beta: the decay, at least 0.
        clip: the largest absolute exponent, above 0: no step changes a weight by a factor beyond exp(±clip).
        inner: the method that says what is pruned; it must be one of hard masks. ``Pruner(method="rigl+ham")`` is
            ``HAM(inner=RigL())``.

    Raises:
        MethodError: a setting out of range, or an inner method that is not one of hard masks.

    >>> HAM(alpha=200).to_dict()
    {'name': 'ham', 'alpha': 200, 'beta': 0.001, 'clip': 0.1, 'inner': {'name': 'hard'}}
    """

    name: ClassVar[str] = "ham"
    alpha: float | None = None
    beta: float = 1e-3
    clip: float = 0.1
    inner: Method = field(default_factory=Hard)

    def __post_init__(self) -> None:
        for name, least in (("alpha", "at least 0"), ("beta", "at least 0"), ("clip", "above 0")):
            value = getattr(self, name)
            if value is None and name == "alpha":
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value < 0 or (name == "clip" and value == 0):
                raise MethodError(f"{name} of ham is {value!r}, but must be a number {least}")
        if not isinstance(self.inner, Method):
            raise MethodError(
                f"inner of ham is {self.inner!r}, but must be a gpmt.Method, such as gpmt.RigL()"
            )
        if self.inner.soft or isinstance(self.inner, HAM):
            raise MethodError(
                f"ham works on hard masks, but inner is the method {self.inner.name}; use hard, rigl or set"
            )

    def check(self, schedule: Schedule | None, optimizers: Sequence[Optimizer], options: PlanOptions) -> None:
        """Raise `MethodError` for optimisers that have no learning rate, or several gradients in a step."""
        self.inner.check(schedule, optimizers, options)
        for optimizer in (stepping(optimizer)[0] for optimizer in optimizers):
            kind = type(optimizer).__name__
            if reevaluates(optimizer):
                raise MethodError(
                    f"ham multiplies weights by the gradient of the step that was taken, but {kind} takes one step "
                    "from several gradients; use another optimizer, such as SGD or AdamW"
                )
            for group in optimizer.param_groups:
                if not isinstance(group.get("lr"), int | float | Tensor):
                    raise MethodError(
                        f"ham needs the learning rate of every step, but a group of {kind} has lr "
                        f"{group.get('lr')!r}; use an optimizer with a number there"
                    )

    def for_training(self, steps: int) -> Self:
        """Set what the inner method leaves open."""
        return replace(self, inner=self.inner.for_training(steps))

    @property
    def last(self) -> int:
        """The step after which the inner method changes no masks."""
        return self.inner.last

    def updates_at(self, step: int) -> bool:
        """Whether the inner method changes the masks after this step."""
        return self.inner.updates_at(step)

    def rule(self, network: TrainedNetwork) -> Rule:
        """Return what carries it out."""
        return HAMRule(network, self, self.inner.rule(network))


class HAMRule(Rule):
    """Multiplies weights after each step, and then lets the inner rule do its part."""

    def __init__(self, network: TrainedNetwork, method: HAM, inner: Rule) -> None:
        super().__init__(network)
        self._method, self._inner = method, inner
        self._alphas: dict[str, float] = {}  # of each tensor, found before its first step
        self._stepped = False

    def check(self, largest: Fraction | None) -> None:
        """Let the inner rule check what it is asked for."""
        self._inner.check(largest)

    def change(self, event: Event) -> None:
        """Let the inner rule do what the schedule asks for."""
        self._inner.change(event)

    def update(self, step: int) -> None:
        """Let the inner rule change the masks."""
        self._inner.update(step)

    def postpone(self, step: int) -> None:
        """Let the inner rule wait for gradients."""
        self._inner.postpone(step)

    def before_step(self, optimizer: Optimizer) -> None:
        """Find the alphas of tensors that are new, and let the inner rule do its part."""
        if self._is_due(optimizer):
            self._find_alphas(optimizer)
        self._inner.before_step(optimizer)

    def after_step(self, optimizer: Optimizer) -> None:
        """Multiply the weights that this optimiser trains, once in each of its steps, before any is set to zero."""
        if self._is_due(optimizer):
            self._multiply(optimizer)
        self._inner.after_step(optimizer)

    def finish(self) -> None:
        """End the inner rule. Steps of the optimiser multiply on."""
        self._inner.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return the alpha of each tensor, and the state of the inner rule."""
        return {"alphas": dict(self._alphas), "inner": self._inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the alphas of the run to resume."""
        super().load_state_dict(
            {key: value for key, value in state.items() if key not in ("alphas", "inner")}
        )
        self._inner.load_state_dict(state.get("inner", {}))
        self._alphas = dict(state.get("alphas", {}))

    def _is_due(self, optimizer: Optimizer) -> bool:
        """Whether it is a step of its own: not one inside another, nor SAM's besides that of its inner optimiser."""
        first = any(optimizer is stepping(each)[0] for each in self.network.optimizers)
        return first and not is_inner_step(optimizer)

    def _matrices(self, optimizer: Optimizer) -> Iterator[tuple[str, Tensor, dict[str, Any]]]:
        """Yield name, weight and group of the tensors of two or more dimensions that an optimiser trains."""
        reshard(self.network.model)
        names = {id(weight): name for name, weight in self.network.model.named_parameters()}
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.ndim >= 2 and weight.is_floating_point() and id(weight) in names:
                    yield names[id(weight)], weight, group

    def _find_alphas(self, optimizer: Optimizer) -> None:
        """Find alpha for the tensors that have none yet."""
        new = {name: weight for name, weight, _ in self._matrices(optimizer) if name not in self._alphas}
        if not new:
            return
        if self._method.alpha is not None:
            self._alphas |= dict.fromkeys(new, float(self._method.alpha))
            return
        if capturing():
            raise MethodError(
                f"ham measures the weights before their first step, and {min(new)} has had none before this capture "
                "of a CUDA graph; run one step before the capture"
            )
        self._alphas |= alphas_of(new)

    def _multiply(self, optimizer: Optimizer) -> None:
        found_inf = getattr(optimizer, "found_inf", None)
        skipped = found_inf if isinstance(found_inf, Tensor) else None
        if skipped is None and found_inf:
            return
        self._check_scale(optimizer)
        method, factors, without = self._method, [], []
        for name, weight, group in self._matrices(optimizer):
            if weight.grad is None:
                without.append(name)
                continue
            if weight.grad.layout != torch.strided:
                raise MethodError(
                    f"the gradient of {name} is sparse, and ham needs that of every weight; make its layer with "
                    "sparse=False"
                )
            alpha = self._alphas[name]
            sign = -1 if group.get("maximize") else 1
            factors.append(
                Factor(weight, weight.grad, rate_of(group), sign * alpha, method.beta, method.clip)
            )
        if not factors and without and not self._stepped:
            raise MethodError(
                f"ham multiplies weights by what their gradients say, but none of the {len(without)} tensors that "
                f"{type(optimizer).__name__} trains, such as {without[0]}, has a gradient after the first step; call "
                "backward() before step()"
            )
        self._stepped = True
        multiply_(factors, skipped=skipped)

    def _check_scale(self, optimizer: Optimizer) -> None:
        """Refuse gradients that may be scaled still; the optimisers of PyTorch unscale them in place."""
        if getattr(optimizer, "grad_scale", None) is not None and not isinstance(optimizer, UNSCALING):
            raise MethodError(
                f"ham needs unscaled gradients, but a GradScaler leaves it to {type(optimizer).__name__} to unscale "
                "them; call scaler.unscale_(optimizer) before scaler.step(optimizer)"
            )


def rate_of(group: Mapping[str, Any]) -> float | Tensor:
    """Return the learning rate of a group as a number, or as a tensor where reading it would wait for a device."""
    rate = group["lr"]
    if isinstance(rate, Tensor):
        return float(rate) if rate.is_cpu else rate.detach()
    return float(rate)


def alphas_of(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Return `STRENGTH` divided by the root mean square of each tensor or of all together, whichever is larger.

    Weights that are zero do not count. Where all are, the alphas are 0.

    >>> alphas_of({"a": torch.tensor([[0.5, 0.0]]), "b": torch.zeros(2, 2)})
    {'a': 8.0, 'b': 8.0}
    """
    squares, counts = {}, {}
    for name, weight in weights.items():
        full = whole(weight.detach())
        squares[name] = float(torch.linalg.vector_norm(full, dtype=torch.float64)) ** 2
        counts[name] = int(torch.count_nonzero(full))
    total = math.sqrt(sum(squares.values()) / max(1, sum(counts.values())))
    sizes = {name: max(total, math.sqrt(squares[name] / max(1, counts[name]))) for name in weights}
    return {name: STRENGTH / size if size else 0.0 for name, size in sizes.items()}
