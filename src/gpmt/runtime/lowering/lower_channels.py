"""Lowering rules of operators that copy channels, features or pixels."""

from __future__ import annotations

from gpmt.runtime.ir.operators import Concat, Slice, Upsample
from gpmt.runtime.ir.operators.channels import NATIVE_SLICES
from gpmt.runtime.kernels.copy import CopyKernel
from gpmt.runtime.kernels.upsample import UpsampleKernel
from gpmt.runtime.lowering.lower_tokens import lower_slice_of_tokens
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import BufferAddress
from gpmt.runtime.lowering.value_layouts import BufferLayout


@lowers(Concat)
def lower_concat(op: Concat, context: LoweringContext) -> None:
    """Copy each part to its channels of the output."""
    layout: BufferLayout = "images" if op.axis == 1 else "vectors"
    sources = [context.layouts.as_layout(part, layout) for part in op.parts]
    output = context.layouts.new_buffer(op.output, layout)
    channel = 0
    for part, source in zip(op.parts, sources, strict=True):
        _add_copy(context, "concat", BufferAddress(source), BufferAddress(output, channel))
        channel += context.steps.shape(part)[op.axis]


@lowers(Slice)
def lower_slice(op: Slice, context: LoweringContext) -> None:
    """Copy the channels, the features, or some tokens."""
    dimensions = len(context.steps.shape(op.input))
    if (dimensions, op.axis) not in NATIVE_SLICES:
        source, count = context.layouts.as_tensor(op.input), context.steps.shape(op.output)[op.axis]
        context.steps.add_torch(
            "slice", (source,), (op.output,),
            lambda tensor: (tensor.narrow(op.axis, op.first, count).clone(),),
        )  # fmt: skip
        context.layouts.set_tensor(op.output)
        return
    if (dimensions, op.axis) == (3, 1):
        lower_slice_of_tokens(op, context)
        return
    layout: BufferLayout = "images" if dimensions == 4 else "vectors"
    source = context.layouts.as_layout(op.input, layout)
    output = context.layouts.new_buffer(op.output, layout)
    _add_copy(context, "slice", BufferAddress(source, op.first), BufferAddress(output))


def _add_copy(context: LoweringContext, label: str, source: BufferAddress, output: BufferAddress) -> None:
    context.steps.solver.share_pitch(source.buffer, output.buffer)
    context.steps.add_kernel(
        label, {"left": source, "output": output},
        lambda planes: CopyKernel(context.lanes, planes["left"], planes["left"], planes["output"]),
        lambda spec, planes: {"mask": planes["output"].mask(), "sizes": spec.sizes()},
    )  # fmt: skip


@lowers(Upsample)
def lower_upsample(op: Upsample, context: LoweringContext) -> None:
    """Repeat rows and columns."""
    source = context.layouts.as_images(op.input)
    output = context.layouts.new_buffer(op.output, "images")
    context.steps.add_kernel(
        "upsample", {"input": BufferAddress(source), "output": BufferAddress(output)},
        lambda planes: UpsampleKernel(context.lanes, planes["input"], planes["output"], op.factor),
    )  # fmt: skip
