"""Lowering rules of operators that copy channels or pixels of images."""

from __future__ import annotations

from gpmt.runtime.ir.operators import Concat, Slice, Upsample
from gpmt.runtime.kernels.copy import CopyKernel
from gpmt.runtime.kernels.upsample import UpsampleKernel
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import BufferAddress


@lowers(Concat)
def lower_concat(op: Concat, context: LoweringContext) -> None:
    """Copy each part to its channels of the output."""
    sources = [context.layouts.as_images(part) for part in op.parts]
    output = context.layouts.new_buffer(op.output, "images")
    channel = 0
    for part, source in zip(op.parts, sources, strict=True):
        _add_copy(context, "concat", BufferAddress(source), BufferAddress(output, channel))
        channel += context.steps.shape(part)[1]


@lowers(Slice)
def lower_slice(op: Slice, context: LoweringContext) -> None:
    """Copy the channels."""
    source = context.layouts.as_images(op.input)
    output = context.layouts.new_buffer(op.output, "images")
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
