"""New shapes of the same elements, orders of axes, and repetition."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported, check_size, constant
from gpmt.runtime.onnx_frontend.registry import operator


@operator("Shape", 1, 13, 15, 19, 21, 23, 24, 25, by_shape=True)
def _shape(call: Call) -> Tensor:
    sizes = list(call.tensor(0).shape)
    end = call.integer("end", len(sizes)) if call.has("end") else None
    return constant(sizes[slice(call.integer("start", 0), end)], torch.int64)


@operator("Size", 1, 13, 19, 21, 23, 24, 25, by_shape=True)
def _size(call: Call) -> Tensor:
    return constant(call.tensor(0).numel(), torch.int64)


@operator("Reshape", 5, 13, 14, 19, 21, 23, 24, 25)
def _reshape(call: Call) -> Tensor:
    source, shape = call.tensor(0), call.integers(1)
    if not call.integer("allowzero", 0):
        if any(length == 0 and place >= source.ndim for place, length in enumerate(shape)):
            raise NotSupported(f"its shape {str(shape)[:60]} copies a dimension that its input does not have")
        shape = [source.shape[place] if length == 0 else length for place, length in enumerate(shape)]
    if shape == list(source.shape):
        return source
    return source.reshape(shape)


@operator("Flatten", 1, 9, 11, 13, 21, 23, 24, 25)
def _flatten(call: Call) -> Tensor:
    source = call.tensor(0)
    axis = call.integer("axis", 1)
    axis = source.ndim if axis == source.ndim else call.axis(axis, source.ndim)
    if axis == 1:
        return source.flatten(1) if source.ndim > 2 else source.reshape(source.shape[0], -1)
    return source.reshape(math.prod(source.shape[:axis]), math.prod(source.shape[axis:]))


@operator("Squeeze", 1, 11, 13, 21, 23, 24, 25)
def _squeeze(call: Call) -> Tensor:
    source = call.tensor(0)
    axes = _axes(call, 13)
    if axes is None:
        chosen = [place for place, length in enumerate(source.shape) if length == 1]
    else:
        chosen = call.axes(axes, source.ndim)
    for place in chosen:
        if source.shape[place] != 1:
            raise NotSupported(f"it removes axis {place}, which has the length {source.shape[place]}")
    kept = [length for place, length in enumerate(source.shape) if place not in chosen]
    return source.reshape(kept) if chosen else source


@operator("Unsqueeze", 1, 11, 13, 21, 23, 24, 25)
def _unsqueeze(call: Call) -> Tensor:
    source = call.tensor(0)
    given = _axes(call, 13) or []
    if len(given) > 64:
        raise NotSupported(f"it adds {len(given)} axes")
    chosen = {*call.axes(given, source.ndim + len(given))}
    lengths = iter(source.shape)
    shape = [1 if place in chosen else next(lengths) for place in range(source.ndim + len(chosen))]
    return source.reshape(shape)


def _axes(call: Call, input_since: int) -> list[int] | None:
    """Return the axes that a node names: in an attribute, or from some version on in an input."""
    if call.version < input_since:
        return call.integer_list("axes")
    return call.integers(1) if call.optional(1) is not None else None


@operator("Transpose", 1, 13, 21, 23, 24, 25)
def _transpose(call: Call) -> Tensor:
    source = call.tensor(0)
    order = call.integer_list("perm")
    if order is None:
        order = list(range(source.ndim))[::-1]
    if sorted(order) != list(range(source.ndim)):
        raise NotSupported(f"its perm is {str(order)[:60]}, not an order of {source.ndim} axes")
    return source.permute(order)


@operator("Expand", 8, 13)
def _expand(call: Call) -> Tensor:
    source, shape = call.tensor(0), call.integers(1)
    check_size(shape)
    shape = [1] * (source.ndim - len(shape)) + shape
    sizes = [1] * (len(shape) - source.ndim) + list(source.shape)
    # Either side may be the one that is repeated.
    shape = [given if length == 1 else length for given, length in zip(sizes, shape, strict=True)]
    check_size(shape)
    return source if shape == list(source.shape) else source.expand(shape)


@operator("Tile", 6, 13)
def _tile(call: Call) -> Tensor:
    source, repeats = call.tensor(0), call.integers(1)
    if len(repeats) != source.ndim:
        raise NotSupported(f"it has {len(repeats)} repeats for {source.ndim} dimensions")
    check_size([length * count for length, count in zip(source.shape, repeats, strict=True)])
    return source.repeat(repeats) if any(count != 1 for count in repeats) else source


@operator("DepthToSpace", 1, 11, 13, 28)
def _depth_to_space(call: Call) -> Tensor:
    source, block = call.tensor(0), call.integer("blocksize", 0)
    mode = call.text("mode", "DCR")
    n, c, h, w = _image(source, block)
    if mode == "CRD":
        return F.pixel_shuffle(source, block)
    if mode != "DCR" or c % (block * block):
        raise NotSupported(f"its mode is {mode!r} for {c} channels and blocks of {block}")
    parts = source.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // block**2, h * block, w * block)


@operator("SpaceToDepth", 1, 13, 28)
def _space_to_depth(call: Call) -> Tensor:
    source, block = call.tensor(0), call.integer("blocksize", 0)
    if call.text("mode", "DCR") != "DCR":
        raise NotSupported(f"its mode is {call.text('mode', 'DCR')!r}")
    n, c, h, w = _image(source, block)
    if h % block or w % block:
        raise NotSupported(f"its blocks of {block} do not divide {h}×{w}")
    parts = source.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(n, c * block**2, h // block, w // block)


def _image(source: Tensor, block: int) -> tuple[int, int, int, int]:
    if source.ndim != 4 or not 1 <= block <= 2**15:
        raise NotSupported(f"its input has {source.ndim} dimensions, and its blocksize is {block}")
    n, c, h, w = source.shape
    return n, c, h, w
