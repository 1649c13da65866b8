"""Pruning while training: a schedule decides when, and the pruned weights stay zero in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Unpack

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gpmt.core.budget.budget import exact_fraction
from gpmt.core.schedule.schedule import Schedule
from gpmt.core.schedule.schedule_checks import check_schedule, last_restore
from gpmt.errors import MaskError
from gpmt.masks import Masks
from gpmt.planning.options import PlanOptions
from gpmt.planning.plan import Plan
from gpmt.pruner.arguments import (
    check_masks,
    check_only_masks,
    check_pattern,
    check_types,
    complete,
    settings,
    with_minimum,
)
from gpmt.pruner.clock import Clock
from gpmt.pruner.enforcement import capturing
from gpmt.pruner.hooks import attach, owners
from gpmt.pruner.methods.hard import Hard
from gpmt.pruner.methods.method import Method
from gpmt.pruner.methods.registry import method_of
from gpmt.pruner.optimizers import after_each_evaluation, as_optimizers, before_update, check_trained
from gpmt.pruner.trained_network import TrainedNetwork
from gpmt.torch_private import is_inner_step
from gpmt.warning import warn

VERSION = 1
"""The version of the state that `Pruner.state_dict` returns."""


class Pruner:
    """Prune a model on a schedule, or by given masks, while `optimizer` trains it; keep pruned weights exactly zero.

    After every step of the optimiser the pruned weights, and every floating tensor of their shape in its
    state (momentum, Adam's averages), are set to +0.0, so that nothing revives them; gradients are left
    alone. The hook sits on the optimiser: the model keeps its parameter objects and its keys, and can be
    compiled, copied, averaged and saved as ever. Copy or pickle the three together, and the copies belong
    together. Masks go by name: a parameter that is moved, cast or replaced stays pruned, as does one that is
    frozen. Give every optimiser that trains pruned tensors, because the weights are zeroed after its steps only.

    Time counts steps of the optimiser (of several, the first) since construction, not batches: accumulating
    gradients does not advance it, nor does a step that a `GradScaler` skips for infinite gradients (`skip_step`
    does). The event of the schedule at time 0 happens at construction, all others right after the step that reaches
    it. Each pruning looks anew for prunable tensors: a layer added to the model stays dense until the next one, and
    counts from then on.

    LBFGS calls its closure at several points within a step. Gradients of pruned weights are set to zero after each of
    these calls, so that it stays among the kept weights, and it forgets earlier steps when the masks change. SAM, in
    either of its forms, is followed by the optimiser inside; its first half moves pruned weights too, for one pass.

    The step of the optimiser may be compiled by `torch.compile`; the Pruner's work stays outside. A captured CUDA
    graph repeats what sets pruned weights to zero, also under masks that are set later, but time stands still in its
    replays: a capture before the last event of the schedule is refused.

    With `DistributedDataParallel` every rank finds the same masks from its own, equal weights; only a
    checksum that proves it is sent. Wrap the model before making the Pruner, so that the ranks start equal.

    With FSDP2 (`fully_shard`; PyTorch 2.7 or newer) each rank enforces the masks on its own shards, and sends nothing
    for that. A pruning gathers the prunable weights: every rank then holds them once in full on its CPU, for as long
    as the pruning takes, and finds the masks of the network that is not sharded. Shard the model before making
    optimizer and Pruner; `masks` and states are whole on every rank. With FSDP2's CPU offload the weights are sent
    from the CPU, so the processes need a backend for it: ``init_process_group("cpu:gloo,cuda:nccl")``.

    With the methods "feather" and "st-3" (`gpmt.Feather` tells more) the parameters hold the sparse network at all
    times but inside the optimiser's steps, which train dense weights that the Pruner keeps; the masks are found anew
    after every step, until `finish`.

    Where a schedule makes the network dense again, as AC/DC does, pruned weights train from zero, and the momentum of
    all tensors starts at zero, that of norms and biases too, as published (`momentum_buffer` and `exp_avg`; second
    moments stay). Only outputs (rows, filters) of which nothing was left get back the weights that they had: from
    zero, batch normalisation would make their first gradients hundreds of times too large.

    To resume, make model, optimizer and Pruner as before, then load their states, the Pruner's last. The
    weights that the new Pruner prunes at construction do not matter, because all are loaded anew.

    Args:
        model: the network, plain, sharded by FSDP2, or wrapped by `DistributedDataParallel` or `torch.compile`.
        optimizer: any `torch.optim.Optimizer`, also as Accelerate or Lightning wraps it, and
            `ZeroRedundancyOptimizer`; or a list of them.
        schedule: a `OneShot`, `Gradual` or `ACDC`, or your own (docs/extending.md); needed unless masks are given.
        method: what happens to pruned weights: the name of a method, or a `gpmt.Method` with settings of its own. By
            default "hard": they are zero, and stay so until the schedule restores them.
        masks: in place of a schedule, masks to train under from the start, which stay as they are. Tensors without
            a mask are dense. The options have no meaning then, and are refused.
        steps_per_epoch: steps of the optimiser in an epoch; needed where the schedule counts in epochs.
        options: min_kept, scope, exclude, blocks, within, allocation, granularity, seed, pattern, scores, as `plan`
            takes them. A function of scores is called with the model at each pruning.

    Attributes:
        schedule: as given; None with given masks.
        method: the `Method`.
        masks: the `Masks` in force; None while the network is dense. Others may be set: they are applied at once,
            and stay until the next event of the schedule.
        plan: the last `Plan`; None before the first pruning, after masks were set or loaded, and in a copy.
        step_count: steps of the optimiser done.
        finished: whether the last event of the schedule is done, and the last update of the method; True with given
            masks.

    Raises:
        BudgetError: the largest sparsity cannot be met (found before anything is changed), `schedule` is not valid,
            or `steps_per_epoch` is missing.
        MaskError: another Pruner of this optimizer has some of the tensors, the ranks' masks differ, `masks` do not
            fit the model, or other options come with them.
        MethodError: the method is not known, or cannot work with the optimiser, the model or the options.
        ScopeError: `optimizer` is not one, or trains none of the prunable tensors; otherwise as from `gpmt.plan`.
        WeightsError: as from `gpmt.plan`.

    Warns where an optimiser that is not given may train prunable tensors. Each pruning warns as `gpmt.plan` does,
    once of each tensor.

    >>> import torch
    >>> from gpmt.core.schedule.schedule import OneShot
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
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        schedule: Schedule | None = None,
        method: str | Method = "hard",
        masks: Masks | None = None,
        steps_per_epoch: int | None = None,
        **options: Unpack[PlanOptions],
    ) -> None:
        check_types(model, schedule, masks)
        self.method = method_of(method)
        self._optimizers = as_optimizers(optimizer)
        self._options = complete(options)
        if masks is not None:
            check_only_masks(self._options)
        largest = None if schedule is None else check_schedule(schedule)
        if schedule is not None:
            check_pattern(schedule, self._options)
        if largest is not None:
            self._options = with_minimum(self._options, model, largest)
        self.method.check(schedule, self._optimizers, self._options)
        self.method = self.method.for_schedule(schedule)
        self._network = TrainedNetwork(model, self._optimizers, self._options, masks)
        self._network.last_restore = -1 if schedule is None else last_restore(schedule)
        self._rule = self.method.rule(self._network)
        self._clock = Clock(schedule, steps_per_epoch, self.method.updates_at)
        self._started = False
        self._check_optimizers()
        first = self._clock.event(0)
        if largest is not None and (first is None or first.sparsity != largest):
            # An impossible target fails now, not at the end of the training.
            self._network.check_request(largest)
        self._rule.check(largest)
        if self._network.fixed is not None:
            self._network.change_masks(self._network.fixed)
        self._run_events()
        self._handles: list[RemovableHandle] = self._attach()

    @property
    def schedule(self) -> Schedule | None:
        """The schedule; None with given masks."""
        return self._clock.schedule

    @schedule.setter
    def schedule(self, schedule: Schedule) -> None:
        check_schedule(schedule)
        self._clock.schedule = schedule
        self._network.last_restore = last_restore(schedule)

    @property
    def step_count(self) -> int:
        """Steps of the optimiser done; reading it waits for the device where a `GradScaler` may have skipped one."""
        return self._clock.read()

    @property
    def finished(self) -> bool:
        """Whether the last event of the schedule is done, and the last update of the method."""
        return self.step_count >= max(self._clock.last, self.method.last)

    @property
    def masks(self) -> Masks | None:
        """The masks in force; None while the network is dense."""
        return self._network.masks

    @masks.setter
    def masks(self, masks: Masks | None) -> None:
        if masks is not None:
            check_masks(masks)
            masks = masks.named_as(self._network.model)
        self._rule.assign(masks)

    @property
    def plan(self) -> Plan | None:
        """The last plan; None before the first pruning, after masks were set or loaded, and in a copy."""
        return self._network.plan

    def track(self, average: nn.Module) -> None:
        """Prune a running average of the model too, such as `torch.optim.swa_utils.AveragedModel`.

        Its pruned weights are set to zero now and whenever the masks change. Nothing is needed in between:
        the model's pruned weights are zero whenever the average is updated, and an average of zeros is zero.
        When AC/DC lifts the masks, the average follows the model. It may be sharded or not, as the model may.

        Raises `MaskError` if neither `average` nor the module that it holds as `module` has all prunable tensors.
        """
        self._network.track(average)

    def skip_step(self) -> None:
        """Let time pass for a step that was left out, as a `GradScaler` does where gradients are infinite.

        Call it where the schedule is to end with the training, whose batches are counted whether they are stepped on
        or not. An event that is due happens now.
        """
        self._clock.add(None)
        self._run_events(left_out=True)

    def detach(self) -> None:
        """Take the hooks off the optimisers: time stops, and pruned weights may grow again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def close(self) -> None:
        """Finish and detach at the end of training; warn if the last event of schedule or method has not come."""
        if self._handles and self.schedule is not None and self.step_count < self._clock.last:
            now = "dense" if self.masks is None else f"{self.masks.sparsity:.2%} sparse"
            final = float(exact_fraction(self.schedule.sparsity))
            warn(
                f"training ended after {self.step_count:,} of the {self._clock.last:,} steps of the schedule: the "
                f"network is {now}, not {final:.2%}; train longer, or let the schedule end earlier"
            )
        elif self._handles and not self.finished:
            warn(
                f"training ended after {self.step_count:,} steps, but {self.method.name} changes masks until step "
                f"{self.method.last:,}; train longer, or let it end earlier"
            )
        self.finish()
        self.detach()

    def finish(self) -> None:
        """End the method: the model is a plain sparse one from now on, under masks that stay as they are.

        With the method "hard" nothing changes. Training may go on, with the pruned weights at zero.
        """
        self._rule.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return time, settings and masks: plain values and tensors, fit for safe loading by `torch.load`."""
        return {
            "version": VERSION,
            "step_count": self.step_count,
            "settings": self._settings(),
            "masks": None if self.masks is None else self.masks.state_dict(),
            "method": self._rule.state_dict(),
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
        own = self._settings()
        saved = {"method": Hard().to_dict(), **state["settings"]}  # the only one of earlier versions
        for name in own | saved:
            if saved.get(name) != own.get(name):
                raise MaskError(
                    f"the state was saved with {name}={saved.get(name)!r}, but this Pruner has {own.get(name)!r}; "
                    "make it with the settings of the run to resume"
                )
        masks = None if state["masks"] is None else Masks.from_state_dict(state["masks"])
        if masks is not None:
            masks.fits(self._network.model)
        own_state = state.get("method", {})
        self._rule.check_state(own_state)
        self._rule.load_masks(masks)
        self._rule.load_state_dict(own_state)
        self._clock.set(state["step_count"])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the hooks, which copied and pickled optimisers lose."""
        return {**vars(self), "_handles": bool(self._handles)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        attached = state["_handles"]
        self._handles = self._attach() if attached else []

    def _attach(self) -> list[RemovableHandle]:
        return attach(
            self,
            self._optimizers,
            before=self._before_step,
            before_evaluations=self._before_evaluations,
            after=self._after_step,
            after_other=self._after_other,
        )

    def _settings(self) -> dict[str, Any]:
        fixed = self._network.fixed
        return {
            **self._clock.to_dict(),
            "method": self.method.to_dict(),
            "masks": None if fixed is None else fixed.digest(),
            **settings(self._options),
        }

    def _check_optimizers(self) -> None:
        """Refuse optimisers that another Pruner has, or that train nothing prunable."""
        prunable = self._network.prunable()
        mine = {id(weight): name for name, weight in prunable.items()}
        for other in owners(self._optimizers):
            for weight in other._network.prunable().values() if isinstance(other, Pruner) else ():
                if id(weight) in mine:
                    raise MaskError(
                        f"{mine[id(weight)]} already has a Pruner on this optimizer; detach() that one first"
                    )
        check_trained(prunable, self._optimizers)

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        act = partial(self._rule.before_step, optimizer)
        if self.method.soft:
            return before_update(args, kwargs, act, method=self.method.name)
        act()
        return None

    def _after_other(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._rule.after_step(optimizer)
        self._rule.settle()

    def _before_evaluations(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return after_each_evaluation(args, kwargs, self._network.zero_gradients)

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if capturing():
            self._check_capture()
        counts = not capturing() and not is_inner_step(optimizer)
        if counts:
            # A GradScaler calls a fused optimiser also for a step to skip, and says so in this attribute.
            self._clock.add(getattr(optimizer, "found_inf", None))
        if counts and not self._started:
            self._started = True
            self._network.check_start()
        self._rule.after_step(optimizer)
        if counts:
            self._run_events()
        else:
            self._rule.settle()

    def _check_capture(self) -> None:
        steps = self.step_count
        if steps < self._clock.last:
            what, last = f"the schedule {type(self.schedule).__name__}", self._clock.last
        elif steps < self.method.last:
            what, last = f"the method {self.method.name}", self.method.last
        else:
            return
        raise MaskError(
            f"replays of a CUDA graph do not count as steps, so {what} would stop at step {steps:,} of {last:,}; "
            "capture the graph after its last event"
        )

    def _run_events(self, *, left_out: bool = False) -> None:
        """Do what is due by now, after a step or in place of one that was left out."""
        for due in self._clock.due():
            if due.event is not None:
                self._rule.change(due.event)
            if due.update and left_out:
                self._rule.postpone(due.step)
            elif due.update:
                self._rule.update(due.step)
        self._rule.settle()
