"""Parts of tensors, and tensors put together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gpmt.runtime.onnx_frontend.call import Call, NotSupported, check_size, constant
from gpmt.runtime.onnx_frontend.registry import Result, operator

_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Concat", 4, 11, 13)
def _concat(call: Call) -> Tensor:
    tensors = call.all()
    if not tensors:
        raise NotSupported("it has no inputs")
    axis = call.axis(call.integer("axis", 1), tensors[0].ndim)
    check_size([sum(tensor.numel() for tensor in tensors)])
    return torch.cat(tensors, axis)


@operator("Split", 2, 11, 13, 18)
def _split(call: Call) -> Result:
    source = call.tensor(0)
    axis = call.axis(call.integer("axis", 0), source.ndim)
    length, count = source.shape[axis], len(call.node.outputs)
    if call.version >= 13:
        sizes = call.integers(1) if call.optional(1) is not None else None
    else:
        sizes = call.integer_list("split")
    if sizes is None:
        each = -(-length // count)
        sizes = [max(0, min(each, length - each * place)) for place in range(count)]
    if len(sizes) != count or sum(sizes) != length or min(sizes) < 0:
        raise NotSupported(f"it splits {length} into {str(sizes)[:60]} for {count} outputs")
    return tuple(torch.split(source, sizes, axis))


@operator("Slice", 1, 10, 11, 13)
def _slice(call: Call) -> Tensor:
    source = call.tensor(0)
    if call.version < 10:
        lists = [call.integer_list(name) for name in ("starts", "ends", "axes")]
        starts, ends, axes = lists[0] or [], lists[1] or [], lists[2]
        steps = None
    else:
        starts, ends = call.integers(1), call.integers(2)
        axes = call.integers(3) if call.optional(3) is not None else None
        steps = call.integers(4) if call.optional(4) is not None else None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise NotSupported("its starts, ends, axes and steps are not of one length, or a step is 0")
    for start, end, axis, step in zip(starts, ends, call.axes(axes, source.ndim), steps, strict=True):
        found = range(*slice(start, end, step).indices(source.shape[axis]))
        if found == range(source.shape[axis]):
            continue
        if step > 0:
            part = (slice(None),) * axis + (slice(found.start, max(found.start, found.stop), step),)
            source = source[part]
        else:
            source = torch.index_select(source, axis, constant(list(found), torch.int64))
    return source


@operator("Gather", 1, 11, 13)
def _gather(call: Call) -> Tensor:
    source, indices = call.tensor(0), call.tensor(1)
    axis = call.axis(call.integer("axis", 0), source.ndim)
    check_size([*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :]])
    length = source.shape[axis]
    if call.is_known(1) and indices.ndim < 2:
        places = [place + length if place < 0 else place for place in call.integers(1)]
        if not all(0 <= place < length for place in places):
            raise NotSupported(f"an index is outside of its axis of {length}")
        if indices.ndim == 0:
            return source.select(axis, places[0])
        if places and places == list(range(places[0], places[0] + len(places))):
            return source[(slice(None),) * axis + (slice(places[0], places[-1] + 1),)]
        return torch.index_select(source, axis, constant(places, torch.int64))
    if axis == 0 and source.ndim == 2 and call.is_known(0) and source.is_floating_point():
        return F.embedding(indices, source)
    found = source[(slice(None),) * axis + (indices.long().reshape(-1),)]
    return found.reshape(*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :])


@operator("GatherElements", 11, 13)
def _gather_elements(call: Call) -> Tensor:
    source, indices = call.tensor(0), call.tensor(1).long()
    axis = call.axis(call.integer("axis", 0), source.ndim)
    return torch.gather(source, axis, torch.where(indices < 0, indices + source.shape[axis], indices))


@operator("Pad", 2, 11, 13, 18, 19, 21, 23, 24, 25)
def _pad(call: Call) -> Tensor:
    source, value = call.tensor(0), 0.0
    if call.version < 11:
        pads = call.integer_list("pads") or []
        value = call.real("value", 0.0)
    else:
        pads = call.integers(1)
        if call.optional(2) is not None:
            value = call.number(2)
    axes = call.integers(3) if call.optional(3) is not None else list(range(source.ndim))
    axes = call.axes(axes, source.ndim)
    if len(pads) != 2 * len(axes):
        raise NotSupported(f"it has {len(pads)} pads for {len(axes)} axes")
    ends = [(0, 0)] * source.ndim
    for place, axis in enumerate(axes):
        ends[axis] = pads[place], pads[place + len(axes)]
    check_size([length + sum(pair) for length, pair in zip(source.shape, ends, strict=True)])
    mode = _MODES.get(call.text("mode", "constant"))
    if mode is None:
        raise NotSupported(f"its mode is {call.text('mode', '')!r}")
    while ends and ends[0] == (0, 0):
        ends = ends[1:]
    numbers = [number for pair in reversed(ends) for number in pair]
    if not numbers:
        return source
    if mode == "constant":
        return F.pad(source, numbers, value=value)
    if len(ends) > max(source.ndim - 2, 1) or min(numbers) < 0:
        raise NotSupported(f"it pads {len(ends)} of {source.ndim} dimensions in the mode {mode}")
    if source.ndim == 1:
        raise NotSupported("its input has one dimension")
    fill = [0] * (2 * (max(source.ndim - 2, 1) - len(ends)))
    return F.pad(source, numbers + fill, mode=mode)


@operator("Trilu", 14)
def _triangle(call: Call) -> Tensor:
    offset = call.number(1) if call.optional(1) is not None else 0
    if not -(2**31) < offset < 2**31:
        raise NotSupported(f"its diagonal is {offset}")
    function = torch.triu if call.integer("upper", 1) else torch.tril
    return function(call.tensor(0), offset)
