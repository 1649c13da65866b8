"""The lowering rule of attention."""

from __future__ import annotations

import math

import numpy as np

from gpmt.runtime.ir.operators import Attention
from gpmt.runtime.ir.values import Floats, Shape
from gpmt.runtime.kernels.attention import AttentionKernel, MaskLayout
from gpmt.runtime.layout.planes import FLOAT_BYTES, Planes
from gpmt.runtime.lowering.candidates import Constants
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import Argument, BufferAddress, PlanesByName


@lowers(Attention)
def lower_attention(op: Attention, context: LoweringContext) -> None:
    """Read the heads where they are in the vectors of query, key and value."""
    layouts, steps = context.layouts, context.steps
    names = {"query": op.query, "key": op.key, "value": op.value}
    arguments: dict[str, Argument] = {
        argument: BufferAddress(layouts.as_vectors(name), first)
        for (argument, name), first in zip(names.items(), op.first, strict=True)
    }
    samples = steps.shape(op.query)[0]
    if op.mask is not None:
        arguments["mask"] = BufferAddress(layouts.as_vectors(op.mask))
    arguments["output"] = BufferAddress(layouts.new_buffer(op.output, "vectors"))
    constant = None if op.bias is None else _planes(op.bias)

    def make_spec(planes: PlanesByName) -> AttentionKernel:
        mask = None
        if op.mask is not None:
            mask = _layout(planes["mask"].plane_bytes, steps.shape(op.mask))
        bias = None
        if op.bias is not None and constant is not None:
            bias = _layout(FLOAT_BYTES * constant.shape[1], op.bias.shape)
        return AttentionKernel(
            context.lanes, planes["query"], planes["key"], planes["value"], planes["output"],
            samples, op.heads, op.scale, mask, bias, op.causal,
        )  # fmt: skip

    def make_arrays(spec: AttentionKernel, planes: PlanesByName) -> Constants:
        return {} if constant is None else {"bias": constant}

    steps.add_kernel("attention", arguments, make_spec, make_arrays)


def _layout(key_bytes: int, shape: Shape) -> MaskLayout:
    samples, heads, queries, _ = shape
    return MaskLayout(key_bytes, samples, heads, queries)


def _planes(bias: Floats) -> Floats:
    """Return constants [samples, heads, queries, keys] as [keys, columns], with what kernels read behind them."""
    keys, columns = bias.shape[3], math.prod(bias.shape[:3])
    planes = np.zeros((keys + 1, max(columns, Planes(1, 1, 1, 1, 1, 0).plane_stride)), np.float32)
    planes[:keys, :columns] = bias.reshape(columns, keys).T
    return planes
