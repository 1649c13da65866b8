"""Lowering rules of normalisations."""

from __future__ import annotations

from gpmt.runtime.ir.operators import GroupNorm, LayerNorm
from gpmt.runtime.kernels.group_norm import GroupNormKernel
from gpmt.runtime.kernels.layer_norm import LayerNormKernel
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import Argument, BufferAddress, PlanesByName
from gpmt.runtime.lowering.value_layouts import BufferLayout


@lowers(LayerNorm)
def lower_layer_norm(op: LayerNorm, context: LoweringContext) -> None:
    """Normalise the features of vectors, or the channels of images."""

    def make_spec(planes: PlanesByName) -> LayerNormKernel:
        return LayerNormKernel(context.lanes, planes["input"], planes["output"], op.epsilon, op.centred)

    label = "layer norm" if op.centred else "RMS norm"
    arguments = _arguments(op, context, "images" if op.axis == 1 else "vectors")
    context.steps.add_kernel(
        label, arguments, make_spec,
        lambda spec, _: {"weight": op.weight, "bias": op.bias, "mask": spec.output.mask()},
    )  # fmt: skip


@lowers(GroupNorm)
def lower_group_norm(op: GroupNorm, context: LoweringContext) -> None:
    """Normalise images."""

    def make_spec(planes: PlanesByName) -> GroupNormKernel:
        return GroupNormKernel(context.lanes, planes["input"], planes["output"], op.groups, op.epsilon)

    arguments = _arguments(op, context, "images")
    context.steps.add_kernel(
        "group norm", arguments, make_spec,
        lambda spec, _: {"weight": op.weight, "bias": op.bias, "mask": spec.output.mask()},
    )  # fmt: skip


def _arguments(
    op: LayerNorm | GroupNorm, context: LoweringContext, layout: BufferLayout
) -> dict[str, Argument]:
    source = context.layouts.as_layout(op.input, layout)
    output = context.layouts.new_buffer(op.output, layout)
    context.steps.solver.share_pitch(source, output)
    return {"input": BufferAddress(source), "output": BufferAddress(output)}
