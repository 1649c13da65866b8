"""A network that is trained and pruned: its optimisers, its averages, and the masks in force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gpmt.core.scope.scope import Scope, find_scope
from gpmt.core.shards import reshard
from gpmt.masks import Masks
from gpmt.model_tools import unwrap
from gpmt.planning.decide import check_request, decide
from gpmt.planning.options import PlanOptions
from gpmt.planning.plan import Plan
from gpmt.pruner.agreement import Agreement
from gpmt.pruner.averages import average_of
from gpmt.pruner.enforcement import Enforcement, check_state, pruned_weight
from gpmt.pruner.lost_outputs import LostOutputs
from gpmt.pruner.optimizers import reevaluates, reset_momentum
from gpmt.warning import warn


class TrainedNetwork:
    """What a method works on: it decides which weights are pruned, and keeps them at zero.

    Attributes:
        model: the network without wrappers.
        optimizers: those that train it.
        options: what `gpmt.plan` takes besides the sparsity.
        fixed: masks that are given in place of a schedule; None otherwise.
        masks: the masks in force; None while the network is dense.
        plan: the last plan, while its masks are in force. Where a method shows its masks without setting them to
            zero, both are made when one of them is first asked for.
        last_restore: the last time at which the schedule makes the network dense again; -1 if it never does.
        lost: the outputs that have no weight now, for then.
    """

    def __init__(
        self, model: nn.Module, optimizers: Sequence[Optimizer], options: PlanOptions, fixed: Masks | None
    ) -> None:
        self.model, self.optimizers, self.options = unwrap(model), optimizers, options
        self.fixed = None if fixed is None else fixed.named_as(self.model)
        self._masks: Masks | None = None
        self._plan: Plan | None = None
        self._make: Callable[[], Plan] | None = None
        self.last_restore, self.lost = -1, LostOutputs()
        self._enforcement = Enforcement()
        self._averages: list[nn.Module] = []
        self._warned: frozenset[str] = frozenset()
        self._agreement = Agreement(model)

    def prunable(self) -> dict[str, Tensor]:
        """Return the tensors that can be pruned now, by name."""
        if self.fixed is not None:
            return {name: pruned_weight(self.model, name) for name in self.fixed}
        return self.scope().tensors

    def scope(self) -> Scope:
        """Return the scope of the options, as the network is now; its tensors may be shared by processes."""
        return find_scope(
            self.model,
            scope=self.options["scope"],
            exclude=self.options["exclude"],
            blocks=self.options.get("blocks"),
            shared=True,
        )

    @property
    def masks(self) -> Masks | None:
        """The masks in force; None while the network is dense."""
        if self._make is not None:
            plan = self._make()
            self._show(plan.masks(), plan)
        return self._masks

    @property
    def plan(self) -> Plan | None:
        """The last plan, while its masks are in force."""
        return self._plan if self.masks is not None else None

    def show(self, make: Callable[[], Plan] | None) -> None:
        """Let masks and plan be those that `make` returns when one of them is asked for; nothing is set to zero."""
        self._show(None, None, make)

    def _show(self, masks: Masks | None, plan: Plan | None, make: Callable[[], Plan] | None = None) -> None:
        self._masks, self._plan, self._make = masks, plan, make

    def check_request(self, sparsity: Fraction) -> None:
        """Raise what a pruning to this sparsity would, as far as names and shapes tell."""
        check_request(self.model, sparsity=sparsity, **self.options)

    def check_start(self) -> None:
        """Check what only the first step shows: the optimisers' state, and wrappers put on the model meanwhile."""
        check_state(self.prunable(), self.optimizers)
        if self.masks is not None:
            self._agreement.check_if_wrapped(self.masks, self.model)

    def decide(self, sparsity: Fraction) -> Plan:
        """Return the plan of a sparsity, and warn of the tensors that it leaves with too little, once of each."""
        reshard(self.model)
        [plan] = decide(self.model, [sparsity], **self.options)
        self.warn_of(plan)
        return plan

    def warn_of(self, plan: Plan) -> None:
        """Warn of the tensors that a plan leaves with too little, once of each."""
        for shortage in plan.shortages:
            for text in shortage.sentences(known=self._warned):
                warn(text)
            self._warned |= shortage.names

    def prune(self, sparsity: Fraction, *, restored: bool = False) -> None:
        """Decide, and change to the masks that follow; `restored` says that the network is made dense again later."""
        plan = self.decide(sparsity)
        masks = plan.masks()
        self.lost.keep(self.model, masks, self.scope().axes if restored else {})
        self.change_masks(masks)
        self._show(masks, plan)

    def restore(self) -> None:
        """Make the network dense again, as AC/DC does: pruned weights train from zero, and nothing has momentum.

        Outputs without any weight get back those that they had before they were pruned.
        """
        masks = self.masks
        self.change_masks(None)
        reshard(self.model)
        self.lost.give_back(self.model, masks, self.scope().axes)
        for optimizer in self.optimizers:
            reset_momentum(optimizer)

    def change_masks(self, masks: Masks | None) -> None:
        """Set other masks than those that the optimisers have worked under; None makes the network dense."""
        for optimizer in self.optimizers:
            if reevaluates(optimizer):
                optimizer.state.clear()  # its picture of the loss is one of other weights
        self.set_masks(masks)

    def set_masks(self, masks: Masks | None) -> None:
        """Set masks, and all that they prune to zero."""
        if masks is not None:
            self._agreement.check(masks, self.model)
        self._show(masks, None)
        self._enforcement.set_masks(masks)
        if masks is None:
            return
        self.zero_pruned()
        self.prune_averages()

    def prune_averages(self) -> None:
        """Set the pruned weights of the tracked averages to +0.0."""
        for average in self._averages:
            if self.masks is not None:
                self.masks.apply_(average)

    def agree(self) -> None:
        """Raise `MaskError` where several processes train the network, and their masks differ."""
        if self._agreement.needed(self.model) and self.masks is not None:
            self._agreement.check(self.masks, self.model)

    def zero_pruned(self) -> None:
        """Set pruned weights, and the optimisers' state of them, to +0.0."""
        if self.masks is None:
            return
        reshard(self.model)
        self._enforcement.zero_pruned(self.model, self.optimizers)

    def zero_gradients(self) -> None:
        """Set the gradients of pruned weights to +0.0."""
        self._enforcement.zero_gradients(self.model)

    def track(self, average: nn.Module) -> None:
        """Prune a running average of the model too."""
        module = average_of(self.prunable(), average)
        self._averages.append(module)
        if self.masks is not None:
            self.masks.apply_(module)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the plan, which holds weights."""
        return {**vars(self), "_masks": self.masks, "_plan": None, "_make": None}
