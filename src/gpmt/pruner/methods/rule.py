"""What a method does at the events of a schedule and at the steps of the optimisers."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from torch.optim import Optimizer

from gpmt.core.schedule.schedule import Event
from gpmt.errors import MaskError
from gpmt.masks import Masks
from gpmt.pruner.trained_network import TrainedNetwork


class Rule:
    """Hard masks: the schedule's events set them, and pruned weights are zero after every step.

    It is the rule of the method "hard", and the base of all others.
    """

    def __init__(self, network: TrainedNetwork) -> None:
        self.network = network

    def check(self, largest: Fraction | None) -> None:
        """Raise what cannot be done up to the schedule's largest sparsity; None stands for masks that are given."""

    def change(self, event: Event) -> None:
        """Do what the schedule asks for: prune to a sparsity, or make the network dense again."""
        if event.sparsity is None:
            self.network.restore()
        else:
            self.network.prune(event.sparsity, restored=event.time < self.network.last_restore)

    def update(self, step: int) -> None:
        """Change the masks by the method's own will, after a step at which `Method.updates_at` is true."""

    def postpone(self, step: int) -> None:
        """Do what `update` does where that step was left out, so that no gradients belong to it."""
        self.update(step)

    def before_step(self, optimizer: Optimizer) -> None:
        """Do what comes before a step of one of the optimisers.

        Of soft methods it comes right before the weights change: where the step has a closure, after its call.
        """

    def after_step(self, optimizer: Optimizer) -> None:
        """Do what comes after a step of one of the optimisers, also one that a `GradScaler` skips."""
        self.network.zero_pruned()

    def settle(self) -> None:
        """Do what comes last: after each step of one of the optimisers and the events and updates that follow it."""

    def assign(self, masks: Masks | None) -> None:
        """Put masks in force that the user sets; raise `MethodError` where the method finds them by itself."""
        self.network.change_masks(masks)

    def finish(self) -> None:
        """End the method: from now on the model is a plain sparse one under masks that stay."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be saved besides masks and time: plain values and tensors."""
        lost = self.network.lost.state_dict()
        return {"lost": lost} if lost else {}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise `MaskError` for what `load_state_dict` cannot load; nothing has been changed yet."""

    def load_masks(self, masks: Masks | None) -> None:
        """Put the masks of a saved state in force; `load_state_dict` follows."""
        self.network.set_masks(masks)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; the masks are loaded already."""
        if odd := sorted(state.keys() - {"lost"}):
            raise MaskError(
                f"the state holds {', '.join(odd)}, which this method does not save; make the Pruner with the method "
                "of the run to resume"
            )
        self.network.lost.load_state_dict(state.get("lost", {}))
