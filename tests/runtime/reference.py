"""A graph in plain PyTorch, operator by operator: the reference for optimized graphs and compiled programs."""

import torch
from torch.nn import functional as F

from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import reads, writes
from gpmt.runtime.ir.operators import (
    Add,
    Affine,
    Attention,
    Concat,
    Conv,
    Embedding,
    Fallback,
    GlobalMean,
    GroupNorm,
    HeadAttention,
    LayerNorm,
    Linear,
    MatMul,
    Multiply,
    Permute,
    PixelsToTokens,
    PlaceTokens,
    Pool,
    Reshape,
    Slice,
    Softmax,
    TokensToPixels,
    Upsample,
)


def run(graph: Graph, inputs, *, double=False):
    """Return the graph's outputs; with `double`, everything that is native is computed in float64.

    Checks on the way that every value is made once, before it is read, and of the shape and type that it says.
    """
    assert len(inputs) == len(graph.inputs)
    values = {}

    def native(dtype):
        return torch.float64 if double and dtype == torch.float32 else dtype

    def put(name, tensor):
        assert name not in values, f"{name} is made twice"
        value = graph.values[name]
        assert tuple(tensor.shape) == value.shape, (name, tensor.shape, value.shape)
        assert tensor.dtype in (value.dtype, native(value.dtype)), (name, tensor.dtype, value.dtype)
        assert value.name == name
        values[name] = tensor.to(native(value.dtype))

    with torch.no_grad():
        for name, tensor in [*zip(graph.inputs, inputs, strict=True), *graph.constants.items()]:
            put(name, tensor)
        for operator in graph.operators:
            given = [values[name] for name in reads(operator)]
            for name, tensor in zip(writes(operator), _run(graph, operator, given), strict=True):
                put(name, tensor)
    assert values.keys() == graph.values.keys()
    return [values[name] for name in graph.outputs]


def activate(tensor, activation: Activation):
    match activation.kind:
        case "none":
            return tensor
        case "clamp":
            return tensor.clamp(activation.low, activation.high)
        case "silu" | "hardswish" | "sigmoid" | "tanh":
            return getattr(F, activation.kind)(tensor)
        case "gelu":
            return F.gelu(tensor)
        case "gelu_tanh":
            return F.gelu(tensor, approximate="tanh")
        case "leaky_relu":
            return F.leaky_relu(tensor, activation.low)


def _run(graph, operator, given):
    if isinstance(operator, Fallback):
        made = operator.calls(
            *[t.to(graph.values[n].dtype) for t, n in zip(given, reads(operator), strict=True)]
        )
        assert isinstance(made, tuple)
        return made
    first, shape = given[0], graph.values[operator.output].shape
    dtype = first.dtype
    match operator:
        case Conv():
            result = F.conv2d(
                _pad(first, operator.padding, 0.0),
                torch.from_numpy(operator.weight).to(dtype),
                torch.from_numpy(operator.bias).to(dtype),
                operator.stride,
                0,
                operator.dilation,
                operator.groups,
            )
            if operator.residual is not None:
                result = result + given[1]
            result = activate(result, operator.activation)
        case Linear():
            weight, bias = (torch.from_numpy(part).to(dtype) for part in (operator.weight, operator.bias))
            result = F.linear(first, weight, bias)
            if operator.residual is not None:
                result = result + given[1]
            result = activate(result, operator.activation)
        case Pool(kind="max"):
            result = F.max_pool2d(_pad(first, operator.padding, -torch.inf), operator.kernel, operator.stride)
        case Pool():
            result = F.avg_pool2d(_pad(first, operator.padding, 0.0), operator.kernel, operator.stride)
            if not operator.count_padding:
                inside = _pad(torch.ones_like(first), operator.padding, 0.0)
                result = result / F.avg_pool2d(inside, operator.kernel, operator.stride)
        case GlobalMean() if first.ndim == 3:
            result = first.mean(1)
        case GlobalMean():
            result = first.mean((2, 3)).reshape(shape)
        case Affine():
            shape_of_channels = (1, -1) + (1,) * (first.ndim - 2) if operator.axis == 1 else (-1,)
            scale, shift = (
                torch.from_numpy(p).to(dtype).view(shape_of_channels)
                for p in (operator.scale, operator.shift)
            )
            result = activate(first * scale + shift, operator.activation)
        case Add():
            result = activate(first + given[1], operator.activation)
        case Multiply():
            result = activate(first * given[1], operator.activation)
        case Concat():
            result = torch.cat(given, operator.axis)
        case Slice(first=start, axis=axis):
            result = first.narrow(axis, start, shape[axis])
        case Permute():
            result = first.permute(operator.order)
        case PixelsToTokens():
            result = first.permute(0, 2, 3, 1).reshape(shape)
        case TokensToPixels():
            batch, channels, height, width = shape
            result = first.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        case PlaceTokens():
            constant = torch.from_numpy(operator.constant).to(dtype)
            result = constant.expand(len(first), *constant.shape).clone()
            result[:, operator.first : operator.first + first.shape[1]] += first
        case LayerNorm() | GroupNorm():
            result = _normalised(first, operator)
        case Embedding():
            result = F.embedding(first.long(), torch.from_numpy(operator.weight))
        case MatMul():
            result = first @ given[1]
        case Softmax():
            result = first.softmax(-1)
        case HeadAttention():
            result = _attention(operator, *given)
        case Attention():
            heads = [
                part[:, :, start : start + shape[2]].unflatten(2, (operator.heads, -1)).transpose(1, 2)
                for part, start in zip(given, operator.first, strict=False)
            ]
            result = _attention(operator, *heads, *given[3:]).transpose(1, 2).reshape(shape)
        case Upsample(factor=factor):
            result = first.repeat_interleave(factor[0], 2).repeat_interleave(factor[1], 3)
        case Reshape():
            result = first.reshape(shape)
    return (result,)


def _normalised(tensor, operator):
    """Return a value after layer norm or group norm, by the formulas."""
    weight, bias = (torch.from_numpy(part).to(tensor.dtype) for part in (operator.weight, operator.bias))
    if isinstance(operator, GroupNorm):
        return F.group_norm(tensor, operator.groups, weight, bias, operator.epsilon)
    moved = tensor.movedim(operator.axis, -1)
    centred = moved - moved.mean(-1, keepdim=True) if operator.centred else moved
    scale = (centred.square().mean(-1, keepdim=True) + operator.epsilon).rsqrt()
    return (centred * scale * weight + bias).movedim(-1, operator.axis)


def _attention(operator, query, key, value, *mask):
    """Return attention of heads, by the formula; queries that see nothing get zeros."""
    scores = operator.scale * query @ key.transpose(-1, -2)
    added = [*mask, *([] if operator.bias is None else [torch.from_numpy(operator.bias).to(query.dtype)])]
    for one in added:
        repeated = one.repeat(len(scores) // len(one), 1, 1, 1) if len(one) > 1 else one
        scores = scores + (repeated if scores.ndim == 4 else repeated[0, 0])
    if operator.causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, -torch.inf)
    return scores.softmax(-1).nan_to_num(0.0) @ value


def _pad(tensor, padding, value):
    top, left, bottom, right = padding
    return F.pad(tensor, (left, right, top, bottom), value=value)
