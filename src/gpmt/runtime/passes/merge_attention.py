"""Attention written with products and softmax becomes one operator, which reads tokens before heads are split."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from gpmt.runtime.ir.activation import IDENTITY
from gpmt.runtime.ir.operators import (
    Affine,
    Attention,
    Fallback,
    HeadAttention,
    MatMul,
    Permute,
    Reshape,
    Softmax,
)
from gpmt.runtime.ir.operators.attention import MAX_KEYS
from gpmt.runtime.ir.torch_calls import Ref
from gpmt.runtime.ir.values import Floats, Shape, Value
from gpmt.runtime.passes.rewriting import Rewriter, rule
from gpmt.runtime.passes.views import merged, view_of


@rule(MatMul)
def recognize_attention(graph: Rewriter, product: MatMul) -> bool:
    """Make one operator of softmax(scale · query · keyᵀ + mask) · value."""
    softmax = graph.sole_producer(product.left)
    if not isinstance(softmax, Softmax):
        return False
    scores, factor, mask = softmax.input, 1.0, None
    added = graph.sole_producer(scores)
    if isinstance(added, Fallback) and (found := _added_mask(graph, added)):
        scores, mask = found
    scores, scale = _without_scale(graph, scores)
    factor *= scale
    inner = graph.sole_producer(scores)
    if not isinstance(inner, MatMul):
        return False
    query, scale = _without_scale(graph, inner.left)
    factor *= scale
    transposed, scale = _without_scale(graph, inner.right)
    factor *= scale
    shape = graph.values[transposed].shape
    key = f"{product.output}_keys"
    if key in graph.values or (*shape[:-2], shape[-1], shape[-2]) != graph.values[product.right].shape:
        return False
    graph.values[key] = Value(key, (*shape[:-2], shape[-1], shape[-2]))
    axes = range(len(shape))
    graph.add(Permute(transposed, key, (*axes[:-2], axes[-1], axes[-2])))
    bias = None if mask is None else _constant(graph, mask)
    mask = mask if bias is None else None
    graph.add(HeadAttention(query, key, product.right, product.output, factor, mask, bias))
    return True


def _added_mask(graph: Rewriter, operator: Fallback) -> tuple[str, str] | None:
    """Return the scores and the mask that a sum on PyTorch adds, if it adds one."""
    if len(operator.calls.calls) != 1:
        return None
    (call,) = operator.calls.calls
    if call.target is not torch.ops.aten.add.Tensor or call.kwargs or len(call.args) != 2:
        return None
    sides = [arg.name for arg in call.args if isinstance(arg, Ref)]
    if len(sides) != 2:
        return None
    shape = graph.values[operator.outputs[0]].shape
    for scores, mask in (sides, sides[::-1]):
        values = graph.values[scores], graph.values[mask]
        fits = len(values[1].shape) == len(shape) == 4 and values[1].shape[3] == shape[3]
        if values[0].shape == shape and fits and values[1].dtype == values[0].dtype == torch.float32:
            return scores, mask
    return None


def _without_scale(graph: Rewriter, name: str) -> tuple[str, float]:
    """Return the value before a product with a number, and the number; 1 where there is none."""
    affine = graph.sole_producer(name)
    if not isinstance(affine, Affine) or affine.activation != IDENTITY or np.any(affine.shift):
        return name, 1.0
    if np.any(affine.scale != affine.scale[0]):
        return name, 1.0
    return affine.input, float(affine.scale[0])


@rule(HeadAttention)
def merge_heads(graph: Rewriter, attention: HeadAttention) -> bool:
    """Let attention read and write tokens [batch, tokens, features], of which each head has a part."""
    query, keys = (graph.values[name].shape for name in (attention.query, attention.key))
    source = view_of(graph, attention.query).source
    tokens = math.prod(graph.values[source].shape[:-1])
    batch = tokens // query[-2]
    one_key = keys[-2] == 1 and (attention.mask is not None or attention.bias is not None)
    if tokens % query[-2] or not batch or math.prod(query[:-2]) % batch or keys[-2] > MAX_KEYS or one_key:
        return False
    heads, size = math.prod(query[:-2]) // batch, query[-1]
    if not _mask_fits(graph, attention, query, batch, heads):
        return False
    names, first = [], []
    for name in (attention.query, attention.key, attention.value):
        view = view_of(graph, name)
        shape, count = graph.values[view.source].shape, graph.values[name].shape[-2]
        width = shape[-1]
        atoms = [(batch, count * width), (heads, size), (count, width), (size, 1)]
        inside = view.offset + heads * size <= width
        if math.prod(shape) != batch * count * width or view.atoms != merged(atoms) or not inside:
            return False
        names.append((view.source, (batch, count, width)))
        first.append(view.offset)
    inputs = [_reshaped(graph, source, shape) for source, shape in names]
    made, split = f"{attention.output}_tokens", f"{attention.output}_heads"
    graph.values[made] = Value(made, (batch, query[-2], heads * size))
    graph.values[split] = Value(split, (batch, query[-2], heads, size))
    together = f"{attention.output}_split"
    graph.values[together] = Value(together, (batch, heads, query[-2], size))
    graph.append(
        Attention(
            inputs[0], inputs[1], inputs[2], made, heads, attention.scale, (first[0], first[1], first[2]),
            attention.mask, attention.bias, attention.causal,
        )
    )  # fmt: skip
    graph.add(Reshape(made, split))
    graph.add(Permute(split, together, (0, 2, 1, 3)))
    graph.add(Reshape(together, attention.output))
    return True


def _mask_fits(graph: Rewriter, attention: HeadAttention, query: Shape, batch: int, heads: int) -> bool:
    added: list[Shape] = []
    if attention.mask is not None:
        added.append(graph.values[attention.mask].shape)
        if added[0][0] not in (1, batch):
            return False
    if attention.bias is not None:
        added.append(attention.bias.shape)
        if batch % len(attention.bias):
            return False
    split = query[:-2] == (batch, heads)
    return all(shape[1] in (1, heads) and (split or shape[:2] == (1, 1)) for shape in added)


def _reshaped(graph: Rewriter, name: str, shape: Shape) -> str:
    """Return a value under another shape."""
    if graph.values[name].shape == shape:
        return name
    other = f"{name}_as_tokens"
    if other not in graph.values:
        graph.values[other] = replace(graph.values[name], name=other, shape=shape)
        graph.append(Reshape(name, other))
    return other


def _constant(graph: Rewriter, name: str) -> Floats | None:
    """Return a constant of the graph as an array, or None where a value is computed."""
    data = graph.constants.get(name)
    return None if data is None or data.dtype != torch.float32 else np.ascontiguousarray(data.numpy())
