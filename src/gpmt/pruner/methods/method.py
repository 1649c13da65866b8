"""What a method is: settings, and the rule that a Pruner follows with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, ClassVar, Self

from torch.optim import Optimizer

from gpmt.core.schedule.schedule import Schedule
from gpmt.planning.options import PlanOptions
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.trained_network import TrainedNetwork


class Method(ABC):
    """The settings of one way to prune while training. A subclass is a frozen dataclass.

    A schedule says when the network has which sparsity; a method says which weights are pruned then, and what happens
    to them at every step.

    Attributes:
        name: what it is called in ``Pruner(method=...)`` and in recipes.
        soft: whether pruned weights train on, unseen by the forward pass; otherwise they are zero and stay so.
    """

    name: ClassVar[str]
    soft: ClassVar[bool] = False

    def check(  # noqa: B027  # many methods work with everything
        self, schedule: Schedule | None, optimizers: Sequence[Optimizer], options: PlanOptions
    ) -> None:
        """Raise `MethodError` for what this method cannot work with; `schedule` is None with given masks."""

    def for_schedule(self, schedule: Schedule | None) -> Self:
        """Return the method with what it leaves open set for a schedule, None with given masks; checked before."""
        return self

    def for_training(self, steps: int) -> Self:
        """Return the method with what it leaves open set for a training of so many steps of the optimiser."""
        return self

    @property
    def last(self) -> int:
        """The step after which the method itself changes no masks; 0 where only the schedule does."""
        return 0

    def updates_at(self, step: int) -> bool:
        """Whether the method changes the masks after this step of the optimiser, besides the schedule's events."""
        return False

    @abstractmethod
    def rule(self, network: TrainedNetwork) -> Rule:
        """Return what carries the method out on one network."""

    def to_dict(self) -> dict[str, Any]:
        """Return name and settings as plain values; two methods are the same, for resuming, where this is equal."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"name": self.name} | {
            name: value.to_dict() if isinstance(value, Method) else value for name, value in settings.items()
        }
