"""The arguments of a Pruner, checked and spelled out."""

from __future__ import annotations

from fractions import Fraction
from inspect import signature
from typing import Any

from torch import nn

from gpmt.core.budget.minimum import is_automatic
from gpmt.core.patterns import Patterns, listed
from gpmt.core.schedule.schedule import Schedule
from gpmt.core.selection.nm import NM
from gpmt.errors import BudgetError, MaskError, ScopeError
from gpmt.masks import Masks
from gpmt.model_tools import unwrap
from gpmt.planning.decide import check_request
from gpmt.planning.options import PlanOptions
from gpmt.prune import plan


def check_model(model: object, owner: str = "a Pruner") -> None:
    """Refuse what is not a model."""
    if not isinstance(model, nn.Module):
        raise ScopeError(
            f"model is of type {type(model).__name__}, but {owner} needs an nn.Module; gpmt.prune_ takes a "
            "state_dict"
        )


def check_types(model: object, schedule: object, masks: object = None) -> None:
    """Refuse what is not a model, and what is not either a schedule or masks."""
    check_model(model)
    if masks is not None:
        check_masks(masks)
        if schedule is not None:
            raise MaskError(
                "schedule and masks are both given, but masks that are given stay as they are; leave one of them out"
            )
    elif not isinstance(schedule, Schedule):
        ratio = schedule if isinstance(schedule, float) else 0.9
        raise BudgetError(
            f"schedule is {schedule!r}, but must be a OneShot, Gradual or ACDC; gpmt.OneShot({ratio}) prunes at once "
            "(or give masks in its place)"
        )


def check_masks(masks: object) -> None:
    """Refuse what is not `Masks` of some tensors."""
    if not isinstance(masks, Masks):
        raise MaskError(
            f"masks is of type {type(masks).__name__}, but must be gpmt.Masks or None; make them of bool tensors "
            "with gpmt.Masks.from_dense, or read them from a file with gpmt.Masks.load"
        )
    if not masks:
        raise MaskError("masks are of no tensor at all; give those of the tensors to prune")


def check_only_masks(options: PlanOptions) -> None:
    """Refuse options that say what to prune where masks are given, which say it already."""
    defaults = signature(plan).parameters
    for name, value in options.items():
        if value not in (defaults[name].default, None, []):
            raise MaskError(
                f"{name} is {value!r}, but has no meaning with masks, which say already what is pruned; leave it out"
            )


def check_pattern(schedule: Schedule, options: PlanOptions) -> None:
    """Refuse a schedule with other sparsities than the one of a pattern N:M."""
    pattern = options.get("pattern")
    if pattern is None:
        return
    wanted = NM.parse(pattern).sparsity
    other = next((event for event in schedule.events() if event.sparsity not in (None, wanted)), None)
    if other is not None and other.sparsity is not None:
        kind, when = type(schedule).__name__, f"{schedule.unit} {other.time}"
        raise BudgetError(
            f"{kind} prunes to sparsity {float(other.sparsity):g} at {when}, but pattern {pattern} has one sparsity, "
            f"{float(wanted):g}; use gpmt.OneShot({float(wanted):g})"
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


def complete(options: PlanOptions, owner: str = "Pruner") -> PlanOptions:
    """Return options with the defaults of those that every saved state names; raise `TypeError` for unknown ones."""
    if unknown := options.keys() - PlanOptions.__optional_keys__:
        raise TypeError(f"{owner}() got an unexpected keyword argument {min(unknown)!r}")
    defaults = PlanOptions(
        scope=None, exclude=(), min_kept=0, allocation="exact", granularity="weight", seed=0
    )
    if options.get("exclude", ()) is None:
        options["exclude"] = ()
    return {**defaults, **options}


def with_minimum(options: PlanOptions, model: nn.Module, sparsity: Fraction) -> PlanOptions:
    """Return options in which the minimum "auto" is the number that the largest sparsity gives."""
    if not is_automatic(options["min_kept"]):
        return options
    minimum = check_request(unwrap(model), sparsity=sparsity, **options).one
    assert minimum is not None
    return {**options, "min_kept": minimum}


def settings(options: PlanOptions) -> dict[str, Any]:
    """Return options as plain values, which can be saved and compared."""
    found: dict[str, Any] = {name: spelled(options[name]) for name in ("scope", "exclude")}
    if options.get("scores") is not None:
        found["scores"] = "given"
    return found | {name: str(value) for name, value in options.items() if name not in (*found, "scores")}


def spelled(patterns: Patterns | None) -> list[str] | None:
    """Return patterns as strings, which can be saved and compared."""
    if patterns is None:
        return None
    return [p if isinstance(p, str) else f"type:{p.__name__}" for p in listed(patterns)]
