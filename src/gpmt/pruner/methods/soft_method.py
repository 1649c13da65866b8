"""The base of methods with soft masks: dense weights train on, and the model shows them shrunk and pruned."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from gpmt.core.schedule.schedule import Schedule
from gpmt.core.scope.scope import Scope
from gpmt.core.soft.soft_loops import Loop
from gpmt.errors import MethodError
from gpmt.planning.items import Item
from gpmt.planning.options import PlanOptions
from gpmt.pruner.methods.method import Method
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.methods.soft_rule import SoftRule
from gpmt.pruner.optimizers import reevaluates, several_evaluations, stepping, with_inner
from gpmt.pruner.trained_network import TrainedNetwork

_ALLOWED: dict[str, tuple[str | None, ...]] = {
    "granularity": ("weight",),
    "within": ("network", "tensor"),
    "pattern": (None,),
    "scores": (None,),
    "max_macs": (None,),
}
"""The options under which single weights are ranked by their magnitudes; the first of each is the default."""


class SoftMethod(Method):
    """The base of methods with soft masks: what a kept weight becomes, and what gradients are scaled by.

    What holds for all of them:

    * The parameters hold T(w), the plain sparse network, at all times but inside the optimiser's step and its hooks.
      So forward passes, evaluations, `model.state_dict()`, averages and copies have exactly the zeros of
      `Pruner.masks`. Tracked averages are zero where it prunes, after every step.
    * Momentum, weight decay and the optimiser's state are those of the dense weights, which are in
      ``Pruner.state_dict()["method"]``, whole also under FSDP2.
    * The masks are found anew after every step, with the sparsity of the schedule's last event so far, also after its
      end, until `Pruner.finish` (or `close`) leaves the sparse network under hard masks.
    * What is written to the parameters between steps, such as a checkpoint, becomes the dense weights where it
      differs from what stood there.
    * Gradients of pruned weights may be scaled in place, so clear them after each step.
    * A step costs a copy of the prunable weights, two passes over them and a selection. With FSDP2 every step gathers
      them on each rank's CPU, which finds the masks of the whole network.
    * L-BFGS, SAM, schedule-free optimisers, captured CUDA graphs and reparametrised weights are refused.
    """

    soft: ClassVar[bool] = True

    @abstractmethod
    def shrink(self, item: Item, weight: Tensor, kept: Tensor, threshold: float) -> Tensor:
        """Return T(w) of one block: the kept weights shrunk by its threshold, and +0.0 for all others."""

    def loop(self, item: Item) -> Loop | None:
        """Return what does as `shrink` in one pass over float32 weights on the CPU; None where nothing does."""
        return None

    @property
    def gradient_scale(self) -> float:
        """What multiplies the gradients of pruned weights."""
        return 1.0

    def factors(self, scope: Scope) -> dict[str, float] | None:
        """Return what multiplies the magnitudes of each tensor where they are compared; None for nothing."""
        return None

    def check(self, schedule: Schedule | None, optimizers: Sequence[Optimizer], options: PlanOptions) -> None:
        """Refuse given masks, what is not ranked by the magnitudes of single weights, L-BFGS and SAM."""
        if schedule is None:
            raise MethodError(
                f"the method {self.name} finds the masks anew at every step, so it cannot train under given ones; "
                "give a schedule in place of masks, or the method hard"
            )
        for name, allowed in _ALLOWED.items():
            given: Any = options.get(name, allowed[0])
            if given not in allowed:
                shown = repr(given) if isinstance(given, str) else "given"
                raise MethodError(
                    f"{name} is {shown}, but the method {self.name} shrinks single weights by thresholds of their "
                    f"magnitude; leave {name} out, or use the method hard"
                )
        if options.get("allocation") == "random":
            raise MethodError(
                f"the allocation random ranks by chance, but the method {self.name} shrinks weights by a threshold "
                "of their magnitude; use another allocation, or the method hard"
            )
        for optimizer in optimizers:
            if any(reevaluates(part) for part in stepping(optimizer)) or len(stepping(optimizer)) > 1:
                raise MethodError(several_evaluations(self.name, optimizer))
            if any(callable(getattr(part, "eval", None)) for part in with_inner(optimizer)):
                raise MethodError(
                    f"{type(optimizer).__name__} changes the weights outside of its steps (by its eval()), which the "
                    f"method {self.name} cannot follow; use another optimizer, or the method hard"
                )

    def rule(self, network: TrainedNetwork) -> Rule:
        """Return what carries it out."""
        return SoftRule(network, self)
