"""The optimisers of a Pruner: what may be given as one, those inside others, and the weights that they train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from gpmt.errors import MethodError, ScopeError
from gpmt.torch_private import is_inner_step, step_hooks
from gpmt.warning import warn

_DELEGATING = {"accelerate", "lightning", "lightning_fabric", "pytorch_lightning"}
"""Libraries whose wrappers only pass steps on, and not always."""
_INNER = ("optim", "optimizer", "base", "base_optimizer", "_base_optimizer")
"""Where optimisers hold another: ZeroRedundancyOptimizer, several, schedulefree, SAM, and timm's Lookahead."""
_MOMENTUM = ("momentum_buffer", "exp_avg")
"""What optimisers call the average of gradients: SGD, RMSprop and Muon; Adam, its kind, and Lion."""


def as_optimizers(given: object) -> list[Optimizer]:
    """Return the optimisers that a Pruner is given, one or a list, each once and without delegating wrappers.

    Raises `ScopeError` for anything else, and for an optimiser that runs no hooks after its steps.
    """
    several = isinstance(given, list | tuple)
    parts = list(given) if isinstance(given, list | tuple) else [given]
    if not parts:
        raise ScopeError("optimizer is an empty list; give each optimizer that trains the pruned weights")
    found = [
        _checked(part, f"optimizer[{index}]" if several else "optimizer") for index, part in enumerate(parts)
    ]
    return list({id(optimizer): optimizer for optimizer in found}.values())


def with_inner(optimizer: Optimizer) -> list[Optimizer]:
    """Return an optimiser and all inside it, any of which may keep state."""
    found, queue = {id(optimizer): optimizer}, [optimizer]
    while queue:
        outer = queue.pop()
        for inner in (getattr(outer, name, None) for name in _INNER):
            if isinstance(inner, Optimizer) and id(inner) not in found:
                found[id(inner)] = inner
                queue.append(inner)
    return list(found.values())


def stepping(optimizer: Optimizer) -> list[Optimizer]:
    """Return the optimisers whose own steps are those of `optimizer`; the first counts them.

    SAM's halves, `first_step` and `second_step`, pass by its `step`, but the second one steps the optimiser inside.
    """
    inner = getattr(optimizer, "base_optimizer", None)
    if (
        isinstance(inner, Optimizer)
        and hasattr(optimizer, "first_step")
        and hasattr(optimizer, "second_step")
    ):
        return [inner, optimizer]
    return [optimizer]


@torch.no_grad()
def reset_momentum(optimizer: Optimizer) -> None:
    """Set the averages of gradients that an optimiser keeps to zero, in place: momentum, but no second moments."""
    for part in with_inner(optimizer):
        for state in part.state.values():
            for name in _MOMENTUM:
                if isinstance(state, dict) and isinstance(state.get(name), Tensor):
                    state[name].zero_()


def reevaluates(optimizer: Optimizer) -> bool:
    """Whether an optimiser calls its closure at several points within one step, as L-BFGS does."""
    return isinstance(optimizer, LBFGS) or "lbfgs" in type(optimizer).__name__.lower()


def after_each_evaluation(
    args: tuple[Any, ...], kwargs: dict[str, Any], act: Callable[[], None]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an optimiser's step, itself the first of them, with a closure that ends with `act`."""
    closure = _closure(args, kwargs)
    if closure is None:
        return args, kwargs

    def evaluate() -> Any:
        loss = closure()
        act()
        return loss

    return (args[0], *args[2:]), {**kwargs, "closure": evaluate}


def before_update(
    args: tuple[Any, ...], kwargs: dict[str, Any], act: Callable[[], None], *, method: str
) -> Any:
    """Call `act` before an optimiser's step changes weights: now, or after its closure, which has to be called once.

    The arguments are those of the step. Returns them where they change. In a step of a base class nothing is done.
    """
    optimizer = args[0]
    if is_inner_step(optimizer):
        return None
    if _closure(args, kwargs) is None:
        act()
        return None
    calls = 0

    def once() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise MethodError(several_evaluations(method, optimizer))
        act()

    return after_each_evaluation(args, kwargs, once)


def _closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("closure", args[1] if len(args) > 1 else None)


def several_evaluations(method: str, optimizer: Optimizer) -> str:
    """Say that a method cannot follow an optimiser which calls its closure several times in a step."""
    return (
        f"{type(optimizer).__name__} computes the loss at several points within one step, which the method {method} "
        "cannot follow, as the optimizer has other weights than the loss; use one that computes it once, or the "
        "method hard"
    )


def held(optimizers: Iterable[Optimizer]) -> set[int]:
    """Return the ids of all parameters that the optimisers update."""
    return {
        id(parameter)
        for optimizer in optimizers
        for part in with_inner(optimizer)
        for group in part.param_groups
        for parameter in group["params"]
    }


def check_trained(prunable: Mapping[str, Tensor], optimizers: Sequence[Optimizer]) -> None:
    """Raise `ScopeError` if the optimisers train no prunable tensor; warn if others may train some of them."""
    here = held(optimizers)
    elsewhere = [name for name, weight in prunable.items() if weight.requires_grad and id(weight) not in here]
    if not elsewhere:
        return
    first, classes = elsewhere[0], " and ".join(type(optimizer).__name__ for optimizer in optimizers)
    if not any(id(weight) in here for weight in prunable.values()):
        raise ScopeError(
            f"{classes} trains none of the {len(prunable)} prunable tensors, such as {first}; make it from the "
            "parameters of this very model, or freeze what nothing trains"
        )
    more = f" and {len(elsewhere) - 1} more" if elsewhere[1:] else ""
    warn(
        f"{first}{more} can be trained, but not by {classes}; if another optimizer trains them, pruned weights come "
        "back after its steps: give the Pruner a list of all optimizers, or freeze what nothing trains"
    )


def _checked(given: object, name: str) -> Optimizer:
    """Return one optimiser without the wrappers of frameworks; refuse what has no steps to follow."""
    if isinstance(given, type):
        raise ScopeError(
            f"{name} is the class {given.__name__}, but must be one made from the parameters of the model, such "
            f"as {given.__name__}(model.parameters(), ...)"
        )
    optimizer = given
    while _delegates(optimizer):
        optimizer = getattr(optimizer, "optimizer", None)
    if isinstance(optimizer, Optimizer) and step_hooks(optimizer) is not None:
        return optimizer
    what = "None" if given is None else f"of type {type(given).__name__}"
    inner = next((field for field in _INNER if isinstance(getattr(given, field, None), Optimizer)), None)
    if isinstance(given, Optimizer):
        reason = ", which runs no hooks after its steps (it skips the constructor of torch.optim.Optimizer)"
    elif inner is not None:
        reason = f", which is not a torch.optim.Optimizer although it holds one as .{inner}"
    else:
        reason = ""
    raise ScopeError(
        f"{name} is {what}{reason}, but a Pruner needs a torch.optim.Optimizer whose step() it can follow, or a list "
        "of them; give the optimizer that trains the model"
    )


def _delegates(optimizer: object) -> bool:
    libraries = {base.__module__.partition(".")[0] for base in type(optimizer).__mro__}
    hooked = isinstance(optimizer, Optimizer) and step_hooks(optimizer) is not None
    return not hooked and bool(libraries & _DELEGATING) and hasattr(optimizer, "optimizer")
