"""Subsampling, which keeps every n-th row and column, becomes a stride of the operator before or after it."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.operators import Conv, Pool
from gpmt.runtime.ir.operators.pooling import pooling_problem
from gpmt.runtime.ir.values import Pair
from gpmt.runtime.passes.rewriting import Rewriter, rule


@rule(Pool)
def push_stride_to_producer(graph: Rewriter, pool: Pool) -> bool:
    """Let the operator before compute only the rows and columns that are kept."""
    before = graph.sole_producer(pool.input) if pool.is_subsampling else None
    if not isinstance(before, Pool | Conv) or (isinstance(before, Conv) and before.residual is not None):
        return False
    stride = _product(before, pool)
    if isinstance(before, Pool):
        width, outputs = graph.values[before.input].shape[3], graph.values[pool.output].shape[3]
        if pooling_problem(width, outputs, before.kernel[1], stride[1], before.padding[1]):
            return False
    graph.replace(before, replace(before, output=pool.output, stride=stride))
    return True


@rule(Conv)
def push_stride_to_consumer(graph: Rewriter, conv: Conv) -> bool:
    """Let a 1×1 convolution skip the rows and columns that are not kept."""
    before = graph.sole_producer(conv.input)
    pointwise = conv.weight.shape[2:] == (1, 1) and not any(conv.padding)
    if not pointwise or not isinstance(before, Pool) or not before.is_subsampling:
        return False
    graph.remove(conv.input)
    graph.append(replace(conv, input=before.input, stride=_product(before, conv)))
    return True


def _product(one: Conv | Pool, other: Conv | Pool) -> Pair:
    return one.stride[0] * other.stride[0], one.stride[1] * other.stride[1]
