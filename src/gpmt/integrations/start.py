"""Make a Pruner where a framework has already loaded weights and optimiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gpmt.core.schedule.schedule import OneShot, Schedule
from gpmt.pruner.pruner import Pruner


def start(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    schedule: Schedule | None = None,
    state: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Pruner:
    """Return a Pruner that starts a run or, given the `state` of another, goes on where that was saved.

    A framework makes its optimiser and loads everything before a callback hears of it. A Pruner made then
    would at once apply the schedule's event of time 0 to weights that have long passed it. So the Pruner of
    a run that goes on is made with nothing to do at time 0, and gets its schedule afterwards. Given masks are
    those of the whole run, so they may be applied again.

    Raises as `Pruner` and `Pruner.load_state_dict` do.
    """
    if state is None or schedule is None:
        pruner = Pruner(model, optimizer, schedule=schedule, **settings)
    else:
        later = OneShot(schedule.sparsity, at=1, unit=schedule.unit)
        pruner = Pruner(model, optimizer, schedule=later, **settings)
        pruner.schedule = schedule
    if state is None:
        return pruner
    pruner.load_state_dict(state)
    return pruner
