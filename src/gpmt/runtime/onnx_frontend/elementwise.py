"""Functions of several tensors, element by element: sums, products, comparisons."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call
from gpmt.runtime.onnx_frontend.registry import OPERATORS, Entry, operator

_OF_TWO: dict[str, tuple[tuple[int, ...], Callable[[Tensor, Tensor], Tensor]]] = {
    "Add": ((7, 13, 14), torch.add),
    "And": ((7,), torch.logical_and),
    "Equal": ((7, 11, 13, 19), torch.eq),
    "Greater": ((7, 9, 13), torch.gt),
    "GreaterOrEqual": ((12, 16), torch.ge),
    "Less": ((7, 9, 13), torch.lt),
    "LessOrEqual": ((12, 16), torch.le),
    "Mul": ((7, 13, 14), torch.mul),
    "Or": ((7,), torch.logical_or),
    "Sub": ((7, 13, 14), torch.sub),
    "Xor": ((7,), torch.logical_xor),
}
_OF_MANY: dict[str, tuple[tuple[int, ...], Callable[[Tensor, Tensor], Tensor]]] = {
    "Max": ((8, 12, 13), torch.maximum),
    "Min": ((8, 12, 13), torch.minimum),
    "Sum": ((8, 13), torch.add),
}


def _of_two(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Tensor]:
    return lambda call: function(call.tensor(0), call.tensor(1))


def _of_many(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Call], Tensor]:
    return lambda call: reduce(function, [call.tensor(0), *call.all()[1:]])


for _name, (_versions, _function) in _OF_TWO.items():
    OPERATORS[_name] = Entry(_of_two(_function), frozenset(_versions))
for _name, (_versions, _function) in _OF_MANY.items():
    OPERATORS[_name] = Entry(_of_many(_function), frozenset(_versions))


@operator("Div", 7, 13, 14)
def _div(call: Call) -> Tensor:
    one, other = call.tensor(0), call.tensor(1)
    if one.is_floating_point():
        return torch.div(one, other)
    return torch.div(one, other, rounding_mode="trunc")


@operator("Mod", 10, 13, 28)
def _mod(call: Call) -> Tensor:
    function = torch.fmod if call.integer("fmod", 0) else torch.remainder
    return function(call.tensor(0), call.tensor(1))


@operator("Pow", 7, 12, 13, 15)
def _pow(call: Call) -> Tensor:
    base, exponent = call.tensor(0), call.tensor(1)
    if call.is_known(1) and exponent.numel() == 1 and exponent.ndim <= base.ndim:
        number = call.number(1) if exponent.ndim < 2 else None
        if number == 2:
            return base * base
        if number is not None and base.is_floating_point():
            return torch.pow(base, number)
    return torch.pow(base, exponent).to(base.dtype)


@operator("Mean", 8, 13)
def _mean(call: Call) -> Tensor:
    return reduce(torch.add, call.all()) / len(call)


@operator("Where", 9, 16)
def _where(call: Call) -> Tensor:
    return torch.where(call.tensor(0), call.tensor(1), call.tensor(2))
