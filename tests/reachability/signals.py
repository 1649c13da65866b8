"""Calls of single operators on signals."""

from typing import Any

import torch
from torch import Tensor

from gpmt.reachability.elementwise import is_pointwise, pointwise
from gpmt.reachability.network import RULES
from gpmt.reachability.signal import Call, Signal
from gpmt.torch_private import OpOverload, tree_map_only


def reached(*values: float) -> Signal:
    """Return a signal that the input reaches at the ones; it is non-zero at the same places."""
    return Signal(torch.tensor(values, dtype=torch.float32), torch.tensor(values, dtype=torch.float32))


def constant(*values: float) -> Signal:
    """Return a signal that the input does not reach."""
    return Signal(torch.tensor(values, dtype=torch.float32))


def apply(target: OpOverload, *args: Any, **kwargs: Any) -> list[Signal]:
    """Return what the rule of an operator makes of signals."""
    plain = tree_map_only(Signal, lambda s: torch.rand(s.shape) if s.data is None else s.data, (args, kwargs))
    result = target(*plain[0], **plain[1])
    results = list(result) if isinstance(result, tuple | list) else [result]
    call = Call(target, args, kwargs, results)
    found = RULES[call.name](call) if call.name in RULES else pointwise(call)
    assert call.name in RULES or is_pointwise(call)
    signals = [found] if isinstance(found, Signal) else list(found)
    assert [s.shape for s in signals] == [r.shape for r in results[: len(signals)]]
    return signals


def parts(signal: Signal) -> tuple[Any, Any]:
    """Return the lists of a signal: non-zero, reached."""
    both: tuple[Tensor, Tensor] = signal.nonzero, signal.by_input
    return tuple(part.tolist() for part in both)
