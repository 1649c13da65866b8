"""Lowering rules of pooling."""

from __future__ import annotations

from gpmt.runtime.ir.operators import GlobalMean, Pool
from gpmt.runtime.kernels.global_mean import GlobalMeanKernel
from gpmt.runtime.kernels.max_pool import MaxPoolKernel
from gpmt.runtime.kernels.mean_pool import MeanPoolKernel
from gpmt.runtime.kernels.token_mean import TokenMeanKernel
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import Argument, BufferAddress


@lowers(Pool)
def lower_pool(op: Pool, context: LoweringContext) -> None:
    """Use the kernel of the kind of pooling."""
    source = context.layouts.as_images(op.input)
    output = context.layouts.new_buffer(op.output, "images")
    arguments: dict[str, Argument] = {"input": BufferAddress(source), "output": BufferAddress(output)}
    # With one window across, the horizontal stride does not matter, but kernels would read as far as it reaches.
    stride = op.stride if context.steps.shape(op.output)[3] > 1 else (op.stride[0], 1)
    if op.kind == "max":
        context.steps.add_kernel(
            "max pool", arguments,
            lambda planes: MaxPoolKernel(
                context.lanes, planes["input"], planes["output"], op.kernel, stride, op.padding
            ),
        )  # fmt: skip
    else:
        context.steps.add_kernel(
            "mean pool", arguments,
            lambda planes: MeanPoolKernel(
                context.lanes, planes["input"], planes["output"],
                op.kernel, stride, op.padding, op.count_padding,
            ),
            lambda spec, _: {"scales": spec.scales()},
        )  # fmt: skip


@lowers(GlobalMean)
def lower_global_mean(op: GlobalMean, context: LoweringContext) -> None:
    """Compute vectors: one of channels for each image, or of features for the tokens of each sample."""
    if len(context.steps.shape(op.input)) == 3:
        tokens = context.layouts.as_vectors(op.input)
        output = context.layouts.new_buffer(op.output, "vectors")
        context.steps.add_kernel(
            "mean", {"input": BufferAddress(tokens), "output": BufferAddress(output)},
            lambda planes: TokenMeanKernel(context.lanes, planes["input"], planes["output"]),
        )  # fmt: skip
        return
    source = context.layouts.as_images(op.input)
    output = context.layouts.new_buffer(op.output, "vectors")
    context.steps.add_kernel(
        "mean", {"input": BufferAddress(source), "output": BufferAddress(output)},
        lambda planes: GlobalMeanKernel(context.lanes, planes["input"], planes["output"]),
    )  # fmt: skip
