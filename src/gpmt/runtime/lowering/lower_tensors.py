"""Lowering rules of reshapes and of the operators that stay on PyTorch."""

from __future__ import annotations

from gpmt.runtime.ir.operators import Fallback, Reshape
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


@lowers(Fallback)
def lower_fallback(op: Fallback, context: LoweringContext) -> None:
    """Add a step on PyTorch."""
    inputs = tuple(context.layouts.as_tensor(name) for name in op.inputs)
    context.steps.add_torch(op.target, inputs, op.outputs, op.calls, reason=op.reason)
    for name in op.outputs:
        context.layouts.set_tensor(name)
