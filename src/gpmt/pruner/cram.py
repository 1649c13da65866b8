"""CrAM: training that makes a dense network prunable in one shot, without training after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from inspect import signature
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gpmt.core.budget.budget import Ratio, parse_sparsity
from gpmt.core.shards import reshard
from gpmt.errors import MethodError, WeightsError
from gpmt.masks import Masks
from gpmt.planning.options import PlanOptions
from gpmt.pruner.arguments import check_model, complete, settings
from gpmt.pruner.hooks import owners
from gpmt.pruner.optimizers import as_optimizers, check_trained, reevaluates, stepping
from gpmt.pruner.trained_network import TrainedNetwork

VERSION = 1
"""The version of the state that `CrAM.state_dict` returns."""


class CrAM:
    """Train a dense network so that it loses little when it is pruned in one shot, at any of several sparsities.

    Each step evaluates the loss f twice: at the weights w, and at C(w + ρ∇f(w)), where C keeps the largest weights of
    a sparsity that is drawn anew. With M the mask of C, the optimiser steps on ∇f(w) + M ⊙ ∇f(C(w + ρ∇f(w))): CrAM+
    with sparse gradients of Peste et al. (2023), "CrAM: A Compression-Aware Minimizer", arXiv 2207.14200. The weights
    stay dense. Afterwards prune with `gpmt.prune_` and measure batch normalisation again with
    `gpmt.recalibrate`; nothing is trained any more. A step takes about twice the time of a plain one, one exact
    selection included, and a copy of weights and gradients in memory.

    The closure is called twice in a step. It computes the loss of one batch, the same both times, calls ``backward``
    and returns the loss; gradients that were there before are dropped. It may accumulate those of several parts of
    the batch, and compute in bfloat16 under ``torch.autocast``. All buffers of the model, so the statistics of batch
    normalisation, are left as the first of the two evaluations left them. Dropout draws anew in each.

    Everything is computed from the weights, the seed and the number of steps, so with `DistributedDataParallel` and
    FSDP2 all ranks prune alike (their masks are compared at every step); wrap or shard the model first. A learning
    rate schedule and checkpoints take the optimiser inside, as ever; save the `state_dict` of both.

    Args:
        model: the network, plain, sharded by FSDP2, or wrapped by `DistributedDataParallel` or `torch.compile`.
        optimizer: the `torch.optim.Optimizer` that trains it.
        sparsities: those to draw from, each as likely; a sparsity that is there twice is drawn twice as often.
        rho: ρ, how far along the gradient the weights move before they are pruned; 0 only prunes them.
        options: min_kept, scope, exclude and the others of `gpmt.plan`, as a later pruning will have them. `seed`
            also seeds the draws.

    Attributes:
        sparsities, rho: as given.
        optimizer: the one that steps.
        step_count: steps done.
        masks: the `Masks` of the last step; None before the first.

    Raises:
        MethodError: an optimiser that evaluates its closure itself (L-BFGS, SAM) or maximises, or several; a Pruner
            on the same optimiser; `rho`, `sparsities` or `seed` that are not valid.
        BudgetError: a sparsity that is not valid, or that the minimum does not allow.
        ScopeError: `optimizer` is not one, or trains none of the prunable tensors; otherwise as from `gpmt.plan`.

    >>> import torch
    >>> model = nn.Linear(10, 10)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> cram = CrAM(model, optimizer, sparsities=(0.5, 0.9))
    >>> def closure():
    ...     loss = model(torch.ones(1, 10)).square().sum()
    ...     loss.backward()
    ...     return loss
    >>> losses = [cram.step(closure) for _ in range(3)]
    >>> cram.step_count, [cram.sparsity_at(step) for step in range(3)], int((model.weight == 0).sum())
    (3, [0.5, 0.5, 0.9], 0)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        sparsities: Sequence[Ratio] = (0.5, 0.7, 0.9),
        rho: float = 0.05,
        **options: Unpack[PlanOptions],
    ) -> None:
        check_model(model, "CrAM")
        self._options = complete(options, "CrAM")
        self._sparsities = _parsed(sparsities)
        self.sparsities = tuple(sparsities)
        self.rho = _checked_rho(rho)
        self._seed = _checked_seed(self._options["seed"])
        self.optimizer = _checked_optimizer(optimizer)
        # Without optimisers: their state belongs to the dense weights, and is not pruned.
        self._network = TrainedNetwork(model, [], self._options, None)
        self._check_free()
        check_trained(self._network.prunable(), [self.optimizer])
        for sparsity in self._sparsities:
            self._network.check_request(sparsity)
        self.step_count = 0
        self._started = False

    @property
    def masks(self) -> Masks | None:
        """The masks of the last step; None before the first."""
        return self._network.masks

    def sparsity_at(self, step: int) -> float:
        """Return the sparsity that is drawn for a step, counted from 0."""
        return float(self._drawn(step))

    def step(self, closure: Callable[[], Any]) -> Any:
        """Step the optimiser; return what the closure returned at the dense weights.

        Raises what `gradients` does.
        """
        loss = self.gradients(closure)
        self.optimizer.step()
        return loss

    def gradients(self, closure: Callable[[], Any]) -> Any:
        """Do a step but for the optimiser's: leave ∇f(w) + M ⊙ ∇f(C(w + ρ∇f(w))) in the gradients.

        For what comes in between, such as clipping their norm. Returns what the closure returned at the dense
        weights, which are as they were.

        Raises `MethodError`, with weights and buffers as they were, where the closure leaves no gradients, where the
        moved weights are not finite, and where a Pruner was put on the optimiser meanwhile; and `MaskError` where the
        masks of two ranks differ.
        """
        if not callable(closure):
            raise MethodError(
                "CrAM evaluates the loss twice, so step needs a closure that computes it and calls backward(); give "
                "cram.step(closure)"
            )
        self._check_free()
        parameters = self._parameters()
        loss = _evaluate(closure, parameters)
        clean = {each: each.grad.clone() for each in parameters if each.grad is not None}
        if not clean:
            raise MethodError(
                "the closure left no gradients; it must call backward() on the loss that it returns"
            )
        with self._pruned(clean):
            _evaluate(closure, parameters)
            self._network.zero_gradients()
        for parameter, gradient in clean.items():
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self.step_count += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return steps done and settings as plain values, fit for safe loading by `torch.load`."""
        return {"version": VERSION, "step_count": self.step_count, "settings": self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; load model and optimiser too.

        Raises `MethodError`, with nothing changed, for what is not such a state, or was saved with other settings.
        """
        if state.get("version") != VERSION or not {"step_count", "settings"} <= state.keys():
            raise MethodError(
                f"the state has version {state.get('version')} and keys {sorted(state)}, but this gpmt loads "
                f"version {VERSION} of what CrAM.state_dict() returns"
            )
        own, saved = self._settings(), state["settings"]
        for name in own | saved:
            if saved.get(name) != own.get(name):
                raise MethodError(
                    f"the state was saved with {name}={saved.get(name)!r}, but this CrAM has {own.get(name)!r}; make "
                    "it with the settings of the run to resume"
                )
        self.step_count = state["step_count"]

    def _settings(self) -> dict[str, Any]:
        return {
            "sparsities": [str(each) for each in self._sparsities],
            "rho": self.rho,
            **settings(self._options),
        }

    def _drawn(self, step: int) -> Fraction:
        [word] = np.random.SeedSequence((self._seed, step)).generate_state(1, np.uint64)
        return self._sparsities[int(word) % len(self._sparsities)]

    def _parameters(self) -> list[nn.Parameter]:
        """Return what has a gradient: the parameters of the model, and others that the optimiser trains."""
        reshard(self._network.model)
        trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        return list(dict.fromkeys([*self._network.model.parameters(), *trained]))

    def _check_free(self) -> None:
        if any(True for _ in owners([self.optimizer])):
            raise MethodError(
                "a Pruner follows this optimizer, but CrAM trains a dense network, which is pruned when the training "
                "is over; detach() the Pruner first"
            )

    @contextmanager
    def _pruned(self, gradients: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
        """Move the weights along their gradients and prune them; put weights and buffers back at the end."""
        model = self._network.model
        weights = {each: each.detach().clone() for each in gradients}
        buffers = [
            (module, name, buffer, buffer.clone())
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
        try:
            with torch.no_grad():
                for parameter, gradient in gradients.items():
                    parameter.add_(gradient, alpha=self.rho)
            masks = self._decide()
            prunable = [model.get_parameter(name) for name in masks]
            weights |= {
                each: each.detach().clone() for each in prunable if each not in weights
            }  # the frozen ones
            self._network.set_masks(masks)
            if not self._started:
                self._started = True
                self._network.check_start()
            torch.clear_autocast_cache()  # it may hold casts of the dense weights
            yield
        finally:
            reshard(model)
            with torch.no_grad():
                for parameter, weight in weights.items():
                    parameter.copy_(weight)
                for module, name, buffer, before in buffers:
                    setattr(module, name, buffer.copy_(before))
            torch.clear_autocast_cache()

    def _decide(self) -> Masks:
        """Return the masks of this step for the moved weights."""
        try:
            return self._network.decide(self._drawn(self.step_count)).masks()
        except WeightsError as error:
            raise MethodError(
                f"the weights plus rho = {self.rho:g} times their gradients cannot be pruned at step "
                f"{self.step_count:,} ({str(error).rstrip('.')}); lower the learning rate"
            ) from None


def _evaluate(closure: Callable[[], Any], parameters: Sequence[nn.Parameter]) -> Any:
    """Call the closure with no gradients from before."""
    for parameter in parameters:
        parameter.grad = None
    with torch.enable_grad():
        return closure()


def _parsed(sparsities: object) -> list[Fraction]:
    if not isinstance(sparsities, list | tuple) or not sparsities:
        raise MethodError(
            f"sparsities is {sparsities!r}, but must be a list to draw from, such as (0.5, 0.7, 0.9)"
        )
    return [parse_sparsity(each) for each in sparsities]


def _checked_rho(rho: object) -> float:
    if not isinstance(rho, int | float) or not math.isfinite(rho) or rho < 0:
        raise MethodError(f"rho is {rho!r}, but must be a number of at least 0, such as 0.05")
    return float(rho)


def _checked_seed(seed: object) -> int:
    if not isinstance(seed, int) or seed < 0:
        raise MethodError(f"seed is {seed!r}, but must be a whole number of at least 0")
    return seed


def _checked_optimizer(given: object) -> Optimizer:
    """Return the optimiser without the wrappers of frameworks; refuse what cannot step on given gradients."""
    if isinstance(given, list | tuple):
        raise MethodError(f"optimizer is a list of {len(given)}, but CrAM steps one; put all weights into it")
    [optimizer] = as_optimizers(given)
    kind, closure = type(optimizer).__name__, signature(optimizer.step).parameters.get("closure")
    needs_closure = closure is not None and closure.default is closure.empty
    if needs_closure or reevaluates(optimizer) or len(stepping(optimizer)) > 1:
        raise MethodError(
            f"{kind} evaluates the loss itself, and so does CrAM; give an optimizer that steps on the gradients it "
            "finds, such as SGD or AdamW"
        )
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise MethodError(
            f"{kind} maximises, but CrAM minimises the loss; leave maximize out and negate the loss"
        )
    return optimizer
