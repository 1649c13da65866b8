"""What RigL and SET share: every few steps the smallest weights are dropped, and as many others grow."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, Self, get_args

from torch import Tensor
from torch.optim import Optimizer

from gpmt.core.budget.budget import pruned_count
from gpmt.core.schedule.schedule import Schedule
from gpmt.core.shards import reshard
from gpmt.errors import MethodError
from gpmt.planning.exchange import Across, Exchange
from gpmt.planning.options import PlanOptions
from gpmt.pruner.methods.method import Method
from gpmt.pruner.methods.rule import Rule
from gpmt.pruner.optimizers import stepping
from gpmt.pruner.trained_network import TrainedNetwork
from gpmt.torch_private import is_inner_step

Anneal = Literal["cosine", "constant"]
_SHARE_OF_TRAINING = Fraction(3, 4)
_INTERVAL = 100
"""Steps between updates, as published, where the training is long enough for `_UPDATES` of them."""
_UPDATES = 30


@dataclass(frozen=True)
class Dynamic(Method):
    """The settings of dynamic sparse training; a subclass says what grows."""

    alpha: float = 0.3
    interval: int | None = None
    end: int | None = None
    anneal: Anneal = "cosine"
    across: Across = "tensor"

    def __post_init__(self) -> None:
        share = isinstance(self.alpha, int | float) and not isinstance(self.alpha, bool)
        if not share or not 0 < self.alpha < 1:
            raise MethodError(
                f"alpha of {self.name} is {self.alpha!r}, but must be a share between 0 and 1, such as 0.3"
            )
        for name in ("interval", "end"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise MethodError(
                    f"{name} of {self.name} is {value!r}, but must be a number of steps, at least 1"
                )
        for name, values in (("anneal", get_args(Anneal)), ("across", get_args(Across))):
            if getattr(self, name) not in values:
                raise MethodError(
                    f"{name} of {self.name} is {getattr(self, name)!r}, but must be "
                    + " or ".join(map(repr, values))
                )

    def check(self, schedule: Schedule | None, optimizers: Sequence[Optimizer], options: PlanOptions) -> None:
        """Raise `MethodError` where the end is open, and for options that an exchange of weights would break."""
        if self.end is None:
            raise MethodError(
                f"{self.name} does not know when to stop its updates; give end, in steps of the optimizer, such as "
                f"gpmt.{type(self).__name__}(end=...) with three quarters of the training"
            )
        plain = {"granularity": "weight", "pattern": None, "max_macs": None, "within": "network"}
        if self.across == "tensor":
            plain["within"] = options.get("within", "network")
        for name, value in plain.items():
            given = options.get(name, value)
            if given != value or given == "row":
                raise MethodError(
                    f'{self.name} moves single weights within each tensor, or with across="network" between them, so '
                    f"it cannot keep {name} {given!r}; leave it out"
                )

    def for_training(self, steps: int) -> Self:
        """Stop the updates after three quarters of the training, and do `_UPDATES` or more, unless both are set."""
        end = max(1, math.floor(_SHARE_OF_TRAINING * steps)) if self.end is None else self.end
        interval = min(_INTERVAL, max(1, end // _UPDATES)) if self.interval is None else self.interval
        return replace(self, end=end, interval=interval)

    @property
    def steps_between(self) -> int:
        """The steps from one update to the next."""
        return _INTERVAL if self.interval is None else self.interval

    @property
    def last(self) -> int:
        """The step of the last update."""
        return 0 if self.end is None else (self.end - 1) // self.steps_between * self.steps_between

    def updates_at(self, step: int) -> bool:
        """Whether weights are exchanged after this step: every `steps_between` steps before `end`."""
        return 0 < step <= self.last and step % self.steps_between == 0

    def share(self, step: int) -> float:
        """Return how much of the kept weights an update at this step exchanges.

        It is alpha/2 · (1 + cos(π · step / end)), or alpha where `anneal` is "constant".
        """
        if self.anneal == "constant" or self.end is None:
            return self.alpha
        return self.alpha / 2 * (1 + math.cos(math.pi * step / self.end))


class DynamicRule(Rule):
    """Exchanges weights at the steps that the method says, besides what the schedule asks for."""

    def __init__(self, network: TrainedNetwork, method: Dynamic) -> None:
        super().__init__(network)
        self.method = method
        self._waiting: int | None = None  # the step of an update that waits for gradients

    @abstractmethod
    def growth(self, exchange: Exchange, step: int) -> dict[str, Tensor] | None:
        """Return what ranks the weights that are to grow, by the name of the tensor; None where it has to wait."""

    def check(self, largest: Fraction | None) -> None:
        """Raise `MethodError` for floors that an update cannot keep, and `ScopeError` for reparametrised weights."""
        exchange = self._exchange()
        if self.method.across == "tensor":
            return
        numel = exchange.found.numel
        if largest is not None:
            total = numel - pruned_count(largest, numel)
        else:
            assert self.network.fixed is not None
            total = self.network.fixed.total_kept
        exchange.check_floors(
            exchange.floors, total=total, share=self.method.share(self.method.steps_between)
        )

    def update(self, step: int) -> None:
        """Drop the smallest of the kept weights, and let as many others grow."""
        masks = self.network.masks
        if masks is None:
            return
        exchange = self._exchange()
        growth = self.growth(exchange, step)
        self._waiting = step if growth is None else None
        if growth is None:
            return
        share = self.method.share(step)
        changed = exchange.exchanged(masks, growth, share=share, across=self.method.across)
        self.network.change_masks(changed)

    def postpone(self, step: int) -> None:
        """Do the update after the next step, which has gradients."""
        self._waiting = step

    def after_step(self, optimizer: Optimizer) -> None:
        """Set pruned weights to zero, and do an update that waits."""
        super().after_step(optimizer)
        counts = optimizer is stepping(self.network.optimizers[0])[0] and not is_inner_step(optimizer)
        if counts and self._waiting is not None and not _skipped(optimizer):
            self.update(self._waiting)

    def state_dict(self) -> dict[str, Any]:
        """Return what the base does, and the step of an update that waits for gradients."""
        return super().state_dict() | ({} if self._waiting is None else {"waiting": self._waiting})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, with an update that waits or without."""
        super().load_state_dict({key: value for key, value in state.items() if key != "waiting"})
        self._waiting = state.get("waiting")

    def _exchange(self) -> Exchange:
        """Return the blocks as they are now."""
        reshard(self.network.model)
        names = ("scope", "exclude", "blocks", "min_kept", "allocation")
        options: Any = {name: value for name, value in self.network.options.items() if name in names}
        if self.network.fixed is not None:
            options["scope"] = list(self.network.fixed)
        return Exchange(self.network.model, **options)


def _skipped(optimizer: Optimizer) -> bool:
    """Whether a `GradScaler` had a fused optimiser skip its step."""
    found_inf = getattr(optimizer, "found_inf", None)
    return bool(found_inf.sum() != 0) if isinstance(found_inf, Tensor) else bool(found_inf)
