"""Lowering rules of reshapes and of what stays on PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gpmt.runtime.ir.operator import reads
from gpmt.runtime.ir.operators import Fallback, HeadAttention, MatMul, Permute, Reshape, Softmax
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.value_layouts import features_of


@lowers(Reshape)
def lower_reshape(op: Reshape, context: LoweringContext) -> None:
    """Use the same buffer where the vectors are the same, flatten images, or leave the reshape to PyTorch."""
    steps, layouts = context.steps, context.layouts
    before, after = steps.shape(op.input), steps.shape(op.output)
    vectors, images = layouts.buffer(op.input, "vectors"), layouts.buffer(op.input, "images")
    if vectors and features_of(before) == features_of(after):
        layouts.set_buffer(op.output, "vectors", vectors)
    elif images and len(after) == 2 and before[0] == after[0]:
        layouts.flatten(images, op.output)
    else:
        source = layouts.as_tensor(op.input)
        steps.add_torch(
            "reshape", (source,), (op.output,), lambda tensor: (tensor.reshape(after),), returns_view=True
        )
        layouts.set_tensor(op.output)


@lowers(Permute)
def lower_permute(op: Permute, context: LoweringContext) -> None:
    """Leave it to PyTorch; like those below it is usually part of another operator or a fallback by now."""
    _add_torch(
        context, "permute", (op.input,), op.output, lambda tensor: tensor.permute(op.order).contiguous()
    )


@lowers(MatMul)
def lower_matmul(op: MatMul, context: LoweringContext) -> None:
    """Leave it to PyTorch."""
    _add_torch(context, "matmul", (op.left, op.right), op.output, torch.matmul)


@lowers(Softmax)
def lower_softmax(op: Softmax, context: LoweringContext) -> None:
    """Leave it to PyTorch."""
    _add_torch(context, "softmax", (op.input,), op.output, lambda tensor: tensor.softmax(-1))


@lowers(HeadAttention)
def lower_head_attention(op: HeadAttention, context: LoweringContext) -> None:
    """Leave it to PyTorch."""
    bias = None if op.bias is None else torch.from_numpy(op.bias)

    def run(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None and bias is not None:
            mask = mask + bias
        return scaled_dot_product_attention(
            query, key, value, bias if mask is None else mask, is_causal=op.causal, scale=op.scale
        ).contiguous()

    _add_torch(context, "attention", reads(op), op.output, run)


def _add_torch(
    context: LoweringContext, label: str, inputs: tuple[str, ...], output: str, run: Callable[..., Tensor]
) -> None:
    tensors = tuple(context.layouts.as_tensor(name) for name in inputs)
    context.steps.add_torch(label, tensors, (output,), lambda *given: (run(*given),))
    context.layouts.set_tensor(output)


@lowers(Fallback)
def lower_fallback(op: Fallback, context: LoweringContext) -> None:
    """Add a step on PyTorch."""
    inputs = tuple(context.layouts.as_tensor(name) for name in op.inputs)
    context.steps.add_torch(op.target, inputs, op.outputs, op.calls, reason=op.reason)
    for name in op.outputs:
        context.layouts.set_tensor(name)
