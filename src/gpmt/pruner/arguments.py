"""The arguments of a Pruner, checked and spelled out."""

from __future__ import annotations

from torch import nn

from gpmt.core.patterns import Patterns, listed
from gpmt.core.schedule import Schedule
from gpmt.errors import BudgetError, ScopeError


def check_types(model: object, schedule: object) -> None:
    """Refuse what is not a model or not a schedule."""
    if not isinstance(model, nn.Module):
        raise ScopeError(
            f"model is of type {type(model).__name__}, but a Pruner needs an nn.Module; gpmt.prune_ takes a "
            "state_dict"
        )
    if not isinstance(schedule, Schedule):
        ratio = schedule if isinstance(schedule, float) else 0.9
        raise BudgetError(
            f"schedule is {schedule!r}, but must be a OneShot, Gradual or ACDC; gpmt.OneShot({ratio}) prunes at once"
        )


def steps_per_unit(schedule: Schedule, steps_per_epoch: int | None) -> int:
    """Return the steps of the optimiser in a unit of the schedule's time."""
    if schedule.unit == "step":
        return 1
    if not isinstance(steps_per_epoch, int) or steps_per_epoch < 1:
        raise BudgetError(
            f"steps_per_epoch is {steps_per_epoch}, but the schedule counts in epochs; give the number of "
            "optimiser steps in one"
        )
    return steps_per_epoch


def spelled(patterns: Patterns | None) -> list[str] | None:
    """Return patterns as strings, which can be saved and compared."""
    if patterns is None:
        return None
    return [p if isinstance(p, str) else f"type:{p.__name__}" for p in listed(patterns)]
