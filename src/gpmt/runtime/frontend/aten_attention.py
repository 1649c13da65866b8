"""ATen's attention, and the products and softmax that it can be written with."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gpmt.runtime.frontend.builder import Arguments, Builder, Unsupported
from gpmt.runtime.frontend.handlers import handles
from gpmt.runtime.ir.operators import HeadAttention, MatMul, Softmax
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.ir.values import Floats

_REASON = "a mask is not computed natively"


@handles("scaled_dot_product_attention")
def _attention(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    if arguments["dropout_p"]:
        raise Unsupported("it is random")
    if query.ndim < 3 or not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        raise Unsupported("its inputs have different numbers of heads")
    if key.shape != value.shape or query.shape[-1] != key.shape[-1]:
        raise Unsupported("its keys and values are of different sizes")
    causal, queries, keys = bool(arguments["is_causal"]), query.shape[-2], key.shape[-2]
    names = [builder.float_value(tensor) for tensor in (query, key, value)]
    scale = arguments["scale"]
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    mask, bias = None, None
    given = arguments["attn_mask"]
    if given is not None:
        if given.ndim not in (2, 4) or given.shape[-1] != keys or given.shape[-2] not in (1, queries):
            raise Unsupported("its mask is not one of queries and keys")
        if builder.constant_data(given) is not None:
            bias = _constant_bias(builder, given)
            if bias.shape == (1, 1, queries, keys) and np.array_equal(bias[0, 0], _causal(queries, keys)):
                causal, bias = True, None
        else:
            mask = _added_mask(builder, given)
    output = builder.new_result(result, "attention")
    builder.add(HeadAttention(names[0], names[1], names[2], output, scale, mask, bias, causal))


def _constant_bias(builder: Builder, mask: Tensor) -> Floats:
    """Return a constant mask as what is added to scores; of a batch only what differs."""
    data = builder.constant_data(mask)
    assert data is not None
    if data.dtype == torch.bool:
        data = torch.zeros(data.shape, device="cpu").masked_fill_(~data, -torch.inf)
    if data.dtype != torch.float32:
        raise Unsupported("its mask is neither bool nor float32")
    data = data.reshape((1,) * (4 - data.ndim) + tuple(data.shape))
    if bool((data == data[:1]).all()):
        data = data[:1]
    return np.ascontiguousarray(data.numpy())


def _causal(queries: int, keys: int) -> Floats:
    return np.triu(np.full((queries, keys), -np.inf, np.float32), 1)


def _added_mask(builder: Builder, mask: Tensor) -> str:
    """Return the value that a computed mask adds to scores [batch, heads, queries, keys]."""
    name, shape = builder.value_name(mask), (1,) * (4 - mask.ndim) + tuple(mask.shape)
    if mask.dtype == torch.float32 and mask.ndim == 4:
        return name
    if mask.dtype not in (torch.bool, torch.float32):
        raise Unsupported("its mask is neither bool nor float32")
    if f"{name}_added" in builder.graph.values:
        return f"{name}_added"  # of an earlier attention
    added = builder.new_value(f"{name}_added", shape)
    calls, source = [], name
    if mask.dtype == torch.bool:
        source = f"{added}_where"
        where = torch.ops.aten.where.Scalar
        calls.append(TorchCall(where, (Ref(name), 0.0, -math.inf), {}, (source,)))
    calls.append(TorchCall(torch.ops.aten.reshape.default, (Ref(source), list(shape)), {}, (added,)))
    builder.add_fallback(calls, [added], _REASON)
    return added


def add_product(builder: Builder, left: Tensor, right: Tensor, result: Tensor) -> None:
    """Add the product of two values."""
    if left.ndim != right.ndim or left.shape[:-2] != right.shape[:-2]:
        raise Unsupported("its inputs have different dimensions")
    names = builder.float_value(left), builder.float_value(right)
    builder.add(MatMul(*names, builder.new_result(result, "matmul")))


@handles("bmm")
def _batched_product(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    add_product(builder, arguments["self"], arguments["mat2"], result)


@handles("softmax", "_softmax")
def _softmax(builder: Builder, arguments: Arguments, result: Tensor) -> None:
    source = arguments["self"]
    if arguments["dim"] % max(1, source.ndim) != source.ndim - 1 or result.dtype != torch.float32:
        raise Unsupported("it is not over the last dimension of float32")
    builder.add(Softmax(builder.float_value(source), builder.new_result(result, "softmax")))
