"""Which shapes the values of native operators have: what kernels rely on, as they check nothing while they run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from gpmt.runtime.ir.graph import (
    FACTORS,
    Add,
    Affine,
    Concat,
    Conv,
    Fallback,
    GlobalMean,
    Linear,
    Multiply,
    Operator,
    Pair,
    Pool,
    Reshape,
    Slice,
    Upsample,
    Value,
    reads,
    unpoolable,
    writes,
)

Shape = tuple[int, ...]


class ShapeError(ValueError):
    """An operator whose values or weights do not fit together."""


def check_shapes(operator: Operator, values: Mapping[str, Value], memory: int) -> None:
    """Raise `ShapeError` where a native operator's values and weights do not fit together, or do not fit in memory.

    Args:
        memory: bytes that one value may take, with the zeros around it that its operator needs.
    """
    if isinstance(operator, Fallback):
        return
    for name in (*reads(operator), *writes(operator)):
        value = values[name]
        if value.dtype != torch.float32 or 0 in value.shape or not value.shape:
            raise ShapeError(f"{name!r} is {value.dtype} {list(value.shape)}, which no kernel can work on")
        _check_memory(name, value.shape, memory)
    found = values[writes(operator)[0]].shape
    shapes = [values[name].shape for name in reads(operator)]
    expected = _expected(operator, shapes, found, memory)
    if found != expected:
        made = writes(operator)[0]
        raise ShapeError(f"{made!r} has the shape {list(found)}, but is made with {list(expected)}")


def _expected(operator: Operator, shapes: list[Shape], found: Shape, memory: int) -> Shape:
    """Return the shape of what an operator makes; `found` where it may have several."""
    source = shapes[0]
    match operator:
        case Linear(weight=weight, bias=bias):
            _need(
                weight.ndim == 2
                and len(source) > 1
                and source[-1] == weight.shape[1]
                and bias.shape == weight.shape[:1],
                "its weights do not fit its input",
            )
            return *source[:-1], len(weight)
        case Reshape():
            _need(math.prod(source) == math.prod(found), "it changes the number of numbers")
            return found
    _need(all(len(shape) == 4 for shape in shapes), "its input is no image")
    match operator:
        case Conv():
            return _convolution(operator, shapes, found, memory)
        case Pool(kernel=kernel, stride=stride, padding=padding):
            size = _windows(source, kernel, stride, padding, memory)
            problem = unpoolable(source[3], size[1], kernel[1], stride[1], padding[1])
            _need(not problem, problem)
            if operator.kind == "mean" and not operator.count_padding:
                inside = (
                    padding[i] < kernel[i] and (size[i] - 1) * stride[i] - padding[i] < source[2 + i]
                    for i in (0, 1)
                )
                _need(all(inside), "it takes the mean of no pixel")
            return *source[:2], *size
        case GlobalMean():
            return source[:2] if len(found) == 2 else (*source[:2], 1, 1)
        case Affine(scale=scale, shift=shift):
            _need(scale.shape == shift.shape == source[1:2], "its scales do not fit its input")
            return source
        case Add():
            _need(shapes[0] == shapes[1], "its inputs differ in shape")
            return source
        case Multiply():
            _need(shapes[1] in (source, (*source[:2], 1, 1)), "its factor does not fit its input")
            return source
        case Concat():
            same = {(shape[0], *shape[2:]) for shape in shapes}
            _need(len(same) == 1, "its parts do not fit together")
            return source[0], sum(shape[1] for shape in shapes), *source[2:]
        case Slice(first=first):
            _need(len(found) == 4 and first + found[1] <= source[1], "its input has fewer channels")
            return source[0], found[1], *source[2:]
        case Upsample(factor=(down, across)):
            _need(down in FACTORS and across in FACTORS, "there is no kernel for its factor")
            return *source[:2], down * source[2], across * source[3]
    raise ShapeError("it is of no known kind")


def _convolution(conv: Conv, shapes: list[Shape], found: Shape, memory: int) -> Shape:
    source, weight, groups = shapes[0], conv.weight, conv.groups
    _need(
        weight.ndim == 4
        and 0 not in weight.shape
        and weight.shape[0] % groups == 0
        and weight.shape[1] * groups == source[1]
        and conv.bias.shape == weight.shape[:1],
        "its weights do not fit its input",
    )
    _need(all(shape == found for shape in shapes[1:]), "what it adds is of another shape")
    reach = tuple(d * (k - 1) + 1 for d, k in zip(conv.dilation, weight.shape[2:], strict=True))
    size = _windows(source, (reach[0], reach[1]), conv.stride, conv.padding, memory)
    return source[0], len(weight), *size


def _windows(
    source: Shape, kernel: Pair, stride: Pair, padding: tuple[int, int, int, int], memory: int
) -> Pair:
    """Return how many windows there are, down and across."""
    padded = source[2] + padding[0] + padding[2], source[3] + padding[1] + padding[3]
    _need(padded[0] >= kernel[0] and padded[1] >= kernel[1], "its window is larger than its input")
    # Rows lie in memory with their padding.
    _check_memory("its input with padding", (*source[:2], *padded), memory)
    return (padded[0] - kernel[0]) // stride[0] + 1, (padded[1] - kernel[1]) // stride[1] + 1


def _need(right: bool, otherwise: str) -> None:
    if not right:
        raise ShapeError(otherwise)


def _check_memory(name: str, shape: Shape, memory: int) -> None:
    needed = 4 * math.prod(shape)
    if needed > memory:
        raise ShapeError(f"{name} would take {needed:,} bytes of memory, more than the {memory:,} there are")
