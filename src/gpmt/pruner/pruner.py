"""Pruning while training: a schedule decides when, and the pruned weights stay zero in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gpmt.core.budget import Ratio
from gpmt.core.patterns import Patterns, listed
from gpmt.core.schedule import Schedule
from gpmt.core.scope import find_scope
from gpmt.core.shards import reshard
from gpmt.core.structure import Granularity
from gpmt.errors import BudgetError, MaskError
from gpmt.masks import Masks
from gpmt.model_tools import unwrap
from gpmt.planning.options import PlanOptions
from gpmt.planning.plan import Plan
from gpmt.prune import decide
from gpmt.pruner.agreement import check_ranks_agree
from gpmt.pruner.enforcement import Enforcement, pruned_weight
from gpmt.pruner.optimizers import unwrap_optimizer
from gpmt.torch_private import step_hooks, support_step_hooks
from gpmt.warning import warn

VERSION = 1
"""The version of the state that `Pruner.state_dict` returns."""


class Pruner:
    """Prune a model on a schedule while `optimizer` trains it, and keep the pruned weights exactly zero.

    After every step of the optimiser the pruned weights, and every floating tensor of their shape in its
    state (momentum, Adam's averages), are set to +0.0, so that nothing revives them; gradients are left
    alone. The hook sits on the optimiser: the model keeps its parameter objects and its keys, and can be
    compiled, copied, averaged and saved as ever. Copy or pickle the three together, and the copies belong
    together. Masks go by name: a parameter that is moved, cast or replaced stays pruned, as does one that is
    frozen or that the optimiser does not hold.

    Time counts steps of the optimiser since construction, not batches: accumulating gradients does not
    advance it, nor does a step that a `GradScaler` skips for infinite gradients, unless `skip_step` is called for it.
    The event of the schedule at time 0 happens at construction, all others right after the step that reaches it.
    Each pruning looks anew for prunable tensors: a layer added to the model stays dense until the next one, and
    counts from then on.

    With `DistributedDataParallel` every rank finds the same masks from its own, equal weights; only a
    checksum that proves it is sent. Wrap the model before making the Pruner, so that the ranks start equal.

    With FSDP2 (`fully_shard`; PyTorch 2.7 or newer) each rank enforces the masks on its own shards, and sends nothing
    for that. A pruning gathers the prunable weights: every rank then holds them once in full on its CPU, for as long
    as the pruning takes, and finds the masks of the network that is not sharded. Shard the model before making
    optimizer and Pruner; `masks` and states are whole on every rank. With FSDP2's CPU offload the weights are sent
    from the CPU, so the processes need a backend for it: ``init_process_group("cpu:gloo,cuda:nccl")``.

    To resume, make model, optimizer and Pruner as before, then load their states, the Pruner's last. The
    weights that the new Pruner prunes at construction do not matter, because all are loaded anew.

    Args:
        model: the network, plain, sharded by FSDP2, or wrapped by `DistributedDataParallel` or `torch.compile`.
        optimizer: any `torch.optim.Optimizer`, also as Accelerate wraps it, and `ZeroRedundancyOptimizer`.
        schedule: a `OneShot`, `Gradual` or `ACDC`.
        min_kept: weights that every tensor keeps: a number, or a share of all such as "0.05%".
        scope: patterns of the tensors to prune; by default every prunable tensor.
        exclude: patterns of the tensors to leave dense.
        allocation: how the tensors share the budget, as in `gpmt.plan`.
        granularity: "weight", or "column" to prune whole columns, as in `gpmt.plan`.
        seed: for ``allocation="random"``.
        steps_per_epoch: steps of the optimiser in an epoch; needed where the schedule counts in epochs.

    Attributes:
        schedule: as given.
        masks: the `Masks` in force; None while the network is dense.
        plan: the last `Plan`; None before the first pruning, after loading a state, and in a copy.
        step_count: steps of the optimiser done.

    Raises:
        BudgetError: the final sparsity cannot be met (found before anything is changed), or
            `steps_per_epoch` is missing.
        MaskError: another Pruner of this optimizer has some of the tensors, or the ranks' masks differ.
        ScopeError, WeightsError: as from `gpmt.plan`.

    Each pruning warns as `gpmt.plan` does, once of each tensor.

    >>> import torch
    >>> from gpmt.core.schedule import OneShot
    >>> model = nn.Linear(10, 10)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> pruner = Pruner(model, optimizer, schedule=OneShot(0.75))
    >>> for _ in range(3):
    ...     model(torch.ones(1, 10)).sum().backward()
    ...     optimizer.step()
    >>> pruner.step_count, int((model.weight == 0).sum())
    (3, 75)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        schedule: Schedule,
        min_kept: int | str = 0,
        scope: Patterns | None = None,
        exclude: Patterns = (),
        allocation: str = "exact",
        granularity: Granularity = "weight",
        seed: int = 0,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.schedule = schedule
        self.masks: Masks | None = None
        self.plan: Plan | None = None
        self.step_count = 0
        self._model = unwrap(model)
        self._replica = next((m for m in model.modules() if isinstance(m, DistributedDataParallel)), None)
        self._optimizer = unwrap_optimizer(optimizer)
        self._options = PlanOptions(
            scope=scope,
            exclude=exclude,
            min_kept=min_kept,
            allocation=allocation,
            granularity=granularity,
            seed=seed,
        )
        self._steps_per_unit = _steps_per_unit(schedule, steps_per_epoch)
        self._enforcement: Enforcement | None = None
        self._averages: list[nn.Module] = []
        self._warned: frozenset[str] = frozenset()
        self._check_only_pruner()
        first = schedule.event(0)
        if first is None or first.sparsity != schedule.sparsity:
            self._plan(schedule.sparsity)  # an impossible target fails now, not at the end of the training
        self._run_event()
        self._handle: RemovableHandle | None = self._attach()

    def track(self, average: nn.Module) -> None:
        """Prune a running average of the model too, such as `torch.optim.swa_utils.AveragedModel`.

        Its pruned weights are set to zero now and whenever the masks change. Nothing is needed in between:
        the model's pruned weights are zero whenever the average is updated, and an average of zeros is zero.
        When AC/DC lifts the masks, the average follows the model. It may be sharded or not, as the model may.

        Raises `MaskError` if neither `average` nor the module that it holds as `module` has all prunable tensors.
        """
        tensors = self._prunable()
        shapes = {name: weight.shape for name, weight in tensors.items()}
        for module in _nested(average):
            parameters = module.named_parameters(remove_duplicate=False)
            if shapes.items() <= {name: weight.shape for name, weight in parameters}.items():
                self._averages.append(module)
                if self.masks is not None:
                    self.masks.apply_(module)
                return
        raise MaskError(
            f"{type(average).__name__} is not an average of the model, because it lacks some of its "
            f"{len(shapes)} prunable tensors; make it from the model that the Pruner has"
        )

    def skip_step(self) -> None:
        """Let time pass for a step that was left out, as a `GradScaler` does where gradients are infinite.

        Call it where the schedule is to end with the training, whose batches are counted whether they are stepped on
        or not. An event that is due happens now.
        """
        self.step_count += 1
        self._run_event()

    def detach(self) -> None:
        """Take the hook off the optimiser: time stops, and pruned weights may grow again."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = None

    def state_dict(self) -> dict[str, Any]:
        """Return time, settings and masks: plain values and tensors, fit for safe loading by `torch.load`."""
        return {
            "version": VERSION,
            "step_count": self.step_count,
            "settings": self._settings(),
            "masks": None if self.masks is None else self.masks.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: at its time, with its masks.

        Load model and optimiser first. The masks are applied to the weights, the optimiser's state and the
        tracked averages. Where several ranks train, load on every one.

        Raises `MaskError`, with nothing changed, for a state that is not a Pruner's or was saved with other
        settings, and for masks that do not fit the model.
        """
        if state.get("version") != VERSION or not {"step_count", "settings", "masks"} <= state.keys():
            raise MaskError(
                f"the state has version {state.get('version')} and keys {sorted(state)}, but this gpmt loads "
                f"version {VERSION} of what Pruner.state_dict() returns"
            )
        for name, value in self._settings().items():
            saved = state["settings"].get(name)
            if saved != value:
                raise MaskError(
                    f"the state was saved with {name}={saved!r}, but this Pruner has {value!r}; make it with "
                    "the settings of the run to resume"
                )
        masks = None if state["masks"] is None else Masks.from_state_dict(state["masks"])
        if masks is not None:
            masks.fits(self._model)
        self._set_masks(masks)
        self.step_count = state["step_count"]
        self.plan = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the hook, which copied and pickled optimisers lose, and the plan, which holds weights."""
        return {**vars(self), "_handle": self._handle is not None, "plan": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        attached = state["_handle"]
        self._handle = self._attach() if attached else None

    def _attach(self) -> RemovableHandle:
        optimizer = self._optimizer
        support_step_hooks(optimizer)
        return optimizer.register_step_post_hook(self._after_step)

    def _settings(self) -> dict[str, Any]:
        return {
            "schedule": self.schedule.to_dict(),
            "steps_per_unit": self._steps_per_unit,
            "scope": _spelled(self._options["scope"]),
            "exclude": _spelled(self._options["exclude"]),
            **{k: str(v) for k, v in self._options.items() if k not in ("scope", "exclude")},
        }

    def _prunable(self) -> dict[str, Tensor]:
        return find_scope(
            self._model, scope=self._options["scope"], exclude=self._options["exclude"], shared=True
        ).tensors

    def _check_only_pruner(self) -> None:
        mine = {id(weight): name for name, weight in self._prunable().items()}
        for hook in (step_hooks(self._optimizer) or {}).values():
            other = getattr(hook, "__self__", None)
            if not isinstance(other, Pruner):
                continue
            for weight in other._prunable().values():
                if id(weight) in mine:
                    raise MaskError(
                        f"{mine[id(weight)]} already has a Pruner on this optimizer; detach() that one first"
                    )

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A GradScaler calls a fused optimiser also for a step to skip, and says so in this attribute.
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and float(found_inf):  # 0, not a tensor, where there are no gradients
            return
        self.step_count += 1
        self._zero_pruned()
        self._run_event()

    def _run_event(self) -> None:
        time, rest = divmod(self.step_count, self._steps_per_unit)
        event = self.schedule.event(time) if rest == 0 else None
        if event is None:
            return
        if event.sparsity is None:
            self._set_masks(None)
        else:
            self.plan = self._plan(event.sparsity)
            self._warn(self.plan)
            self._set_masks(self.plan.masks())

    def _plan(self, sparsity: Ratio) -> Plan:
        reshard(self._model)
        return decide(self._model, [sparsity], **self._options)[0]

    def _warn(self, plan: Plan) -> None:
        """Warn of the tensors that the plan leaves with too little, once of each."""
        for text in plan.shortage.sentences(float(plan.sparsity), known=self._warned):
            warn(text)
        self._warned |= plan.shortage.names

    def _set_masks(self, masks: Masks | None) -> None:
        self.masks = masks
        self._enforcement = None if masks is None else Enforcement(masks)
        if masks is None:
            return
        check_ranks_agree(masks, [pruned_weight(self._model, name) for name in masks], self._replica)
        self._zero_pruned()
        for average in self._averages:
            masks.apply_(average)

    def _zero_pruned(self) -> None:
        if self._enforcement is None:
            return
        reshard(self._model)
        self._enforcement.zero_pruned(self._model, self._optimizer)


def _nested(average: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and those that it and its like hold as `module`, outermost first."""
    module: object = average
    while isinstance(module, nn.Module):
        module = unwrap(module)
        yield module
        module = getattr(module, "module", None)


def _steps_per_unit(schedule: Schedule, steps_per_epoch: int | None) -> int:
    if schedule.unit == "step":
        return 1
    if steps_per_epoch is None or steps_per_epoch < 1:
        raise BudgetError(
            f"steps_per_epoch is {steps_per_epoch}, but the schedule counts in epochs; give the number of "
            "optimiser steps in one"
        )
    return steps_per_epoch


def _spelled(patterns: Patterns | None) -> list[str] | None:
    """Return patterns as strings, which can be saved and compared."""
    if patterns is None:
        return None
    return [p if isinstance(p, str) else f"type:{p.__name__}" for p in listed(patterns)]
