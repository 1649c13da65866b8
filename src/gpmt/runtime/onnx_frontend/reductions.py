"""Means, sums and extremes over axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported
from gpmt.runtime.onnx_frontend.registry import OPERATORS, Entry, Result, operator

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _product(source: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        source = torch.prod(source, axis, keepdim=keep, dtype=source.dtype)
    return source


def _sum(source: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(source, axes, keepdim=keep, dtype=source.dtype)


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": lambda source, axes, keep: _sum(source.abs(), axes, keep),
    "ReduceL2": lambda source, axes, keep: torch.sqrt(_sum(source * source, axes, keep)),
    "ReduceLogSum": lambda source, axes, keep: torch.log(_sum(source, axes, keep)),
    "ReduceLogSumExp": lambda source, axes, keep: torch.logsumexp(source, axes, keep),
    "ReduceMax": lambda source, axes, keep: torch.amax(source, axes, keep),
    "ReduceMean": lambda source, axes, keep: torch.mean(source, axes, keep),
    "ReduceMin": lambda source, axes, keep: torch.amin(source, axes, keep),
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda source, axes, keep: _sum(source * source, axes, keep),
}
_VERSIONS = frozenset({1, 11, 12, 13, 18, 20, 28})


def _translation(name: str, reduction: Reduction) -> Callable[[Call], Tensor]:
    axes_are_input = 13 if name == "ReduceSum" else 18

    def translate(call: Call) -> Tensor:
        source = call.tensor(0)
        if call.version < axes_are_input:
            given = call.integer_list("axes")
        else:
            given = call.integers(1) if call.optional(1) is not None else None
        if not given and call.integer("noop_with_empty_axes", 0):
            return reduction(source.unsqueeze(0), [0], False) if source.is_floating_point() else source
        axes = call.axes(given or range(source.ndim), source.ndim)
        if source.ndim == 0:
            source, axes = source.reshape(1), [0]
            return reduction(source, axes, False)
        return reduction(source, axes, bool(call.integer("keepdims", 1)))

    return translate


for _name, _reduction in _REDUCTIONS.items():
    OPERATORS[_name] = Entry(_translation(_name, _reduction), _VERSIONS)


@operator("ArgMax", 1, 11, 12, 13)
def _arg_max(call: Call) -> Tensor:
    return _arg_extreme(call, torch.argmax)


@operator("ArgMin", 1, 11, 12, 13)
def _arg_min(call: Call) -> Tensor:
    return _arg_extreme(call, torch.argmin)


def _arg_extreme(call: Call, function: Callable[[Tensor, int, bool], Tensor]) -> Tensor:
    source = call.tensor(0)
    axis = call.axis(call.integer("axis", 0), source.ndim)
    keep = bool(call.integer("keepdims", 1))
    if call.integer("select_last_index", 0):
        return source.shape[axis] - 1 - function(source.flip(axis), axis, keep)
    return function(source, axis, keep)


@operator("CumSum", 11, 14)
def _cumulative_sum(call: Call) -> Tensor:
    source = call.tensor(0)
    axis = call.axis(call.number(1), source.ndim)
    backwards = call.integer("reverse", 0)
    given = source.flip(axis) if backwards else source
    found = torch.cumsum(given, axis, dtype=source.dtype)
    if call.integer("exclusive", 0):
        found = found - given
    return found.flip(axis) if backwards else found


@operator("TopK", 1, 10, 11, 24)
def _top_k(call: Call) -> Result:
    source = call.tensor(0)
    count = call.number(1) if call.version >= 10 else call.integer("k", 0)
    axis = call.axis(call.integer("axis", -1), source.ndim)
    if not 0 <= count <= source.shape[axis]:
        raise NotSupported(f"it asks for {count} of {source.shape[axis]}")
    # Of equal ones the first, as torch.topk does not promise.
    largest = bool(call.integer("largest", 1))
    found = torch.sort(source, stable=True, dim=axis, descending=largest)
    return found[0].narrow(axis, 0, count), found[1].narrow(axis, 0, count)
