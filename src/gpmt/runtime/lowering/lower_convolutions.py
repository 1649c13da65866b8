"""Lowering rules of convolutions and linear layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpmt.runtime.ir.operators import Conv, Linear, Reshape
from gpmt.runtime.ir.values import Floats
from gpmt.runtime.kernels.depthwise_conv import DepthwiseConvKernel
from gpmt.runtime.layout.planes import OVERREAD
from gpmt.runtime.layout.taps import ConvWindows, Taps
from gpmt.runtime.lowering.candidates import Candidate, Layer, candidates
from gpmt.runtime.lowering.lower_tensors import lower_reshape
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import Argument, BufferAddress, LayerMacs, PlanesByName
from gpmt.runtime.lowering.value_layouts import is_pixel

_MAX_DEPTHWISE_TAPS = 256  # the depthwise kernel has instructions for each


@lowers(Conv)
def lower_conv(op: Conv, context: LoweringContext) -> None:
    """Choose between a linear layer, the depthwise kernel and the general kernels."""
    filters, (height, width) = len(op.weight), op.weight.shape[2:]
    pixels = int(np.prod(context.steps.shape(op.output))) // filters
    macs = LayerMacs(op.name, pixels * op.weight.size, pixels * int(np.count_nonzero(op.weight)))
    label = f"conv {height}×{width}" + ("" if op.stride == (1, 1) else f" /{op.stride[0]}")
    weight = _weight_of_pixel(op, context)
    if weight is not None:
        _add_matrix(op, context, weight, label, op.residual, macs)
        return
    windows = ConvWindows.of(op, context.steps.shape(op.input), context.steps.shape(op.output))
    # The last vector of a row reads this much beyond it where pixels are a stride apart.
    close = op.stride[1] * context.lanes <= OVERREAD // 2
    if op.depthwise and close and op.weight[0].size <= _MAX_DEPTHWISE_TAPS:
        _add_depthwise(op, context, windows, f"{label} depthwise", macs)
    else:
        _add_conv(op, context, windows, label, macs)


def _weight_of_pixel(op: Conv, context: LoweringContext) -> Floats | None:
    """Return the weights [filters, channels] of a convolution that is a linear layer of vectors, else None.

    Only one tap of a window sees the pixel of images of one pixel.
    """
    shapes = context.steps.shape(op.input), context.steps.shape(op.output)
    if context.layouts.buffer(op.input, "vectors") is None or not all(map(is_pixel, shapes)) or op.groups > 1:
        return None
    y, x = op.padding[0] // op.dilation[0], op.padding[1] // op.dilation[1]
    inside = y < op.weight.shape[2] and x < op.weight.shape[3]
    if inside and (y * op.dilation[0], x * op.dilation[1]) == op.padding[:2]:
        return np.ascontiguousarray(op.weight[:, :, y, x])
    return None


def _add_conv(op: Conv, context: LoweringContext, windows: ConvWindows, label: str, macs: LayerMacs) -> None:
    layouts, solver = context.layouts, context.steps.solver
    source = layouts.as_images(op.input) if op.stride == (1, 1) else layouts.as_phases(op.input, windows)
    residual = layouts.as_images(op.residual) if op.residual else None
    output = layouts.new_buffer(op.output, "images")
    for other in (source, residual):
        if other:
            solver.share_pitch(other, output)
    solver.need_zeros(source, **windows.zeros_read())
    weight = op.weight.reshape(len(op.weight), -1)

    def kernels(planes: PlanesByName) -> list[Candidate]:
        layer = Layer(
            weight, op.bias, windows.taps(planes["input"]),
            planes["input"], planes["output"], planes.get("residual"), op.activation,
        )  # fmt: skip
        return candidates(layer, context.processor, context.threads)

    context.steps.add_candidates(label, _arguments(source, output, residual), kernels, macs)


def _add_depthwise(
    op: Conv, context: LoweringContext, windows: ConvWindows, label: str, macs: LayerMacs
) -> None:
    layouts, solver = context.layouts, context.steps.solver
    source = layouts.as_images(op.input)
    residual = layouts.as_images(op.residual) if op.residual else None
    output = layouts.new_buffer(op.output, "images")
    if op.stride == (1, 1):
        solver.share_pitch(source, output)
    if residual:
        solver.share_pitch(residual, output)
    solver.need_zeros(source, **windows.zeros_read(phases=False))
    height, width = op.weight.shape[2:]
    context.steps.add_kernel(
        label, _arguments(source, output, residual),
        lambda planes: DepthwiseConvKernel(
            context.lanes, planes["input"], planes["output"], (height, width),
            op.stride, op.padding[:2], op.dilation, planes.get("residual"), op.activation,
        ),
        lambda spec, _: {"weights": spec.pack_weights(op.weight, op.bias), "mask": spec.output.mask()},
        macs,
    )  # fmt: skip


@lowers(Linear)
def lower_linear(op: Linear, context: LoweringContext) -> None:
    """Compute vectors from vectors."""
    steps = context.steps
    rows = int(np.prod(steps.shape(op.output))) // len(op.weight)
    if any(is_pixel(steps.shape(name)) for name in (op.input, op.output)):
        # As vectors, images of one pixel have their channels as features; here the features are the last dimension.
        source = steps.new_value(f"{op.output}:before", (rows, op.weight.shape[1]))
        output = steps.new_value(f"{op.output}:after", (rows, len(op.weight)))
        lower_reshape(Reshape(op.input, source), context)
        residual = None
        if op.residual:
            residual = steps.new_value(f"{op.output}:residual", (rows, len(op.weight)))
            lower_reshape(Reshape(op.residual, residual), context)
        lower_linear(replace(op, input=source, output=output, residual=residual), context)
        lower_reshape(Reshape(output, op.output), context)
        return
    macs = LayerMacs(op.name, rows * op.weight.size, rows * int(np.count_nonzero(op.weight)))
    _add_matrix(op, context, op.weight, "linear", op.residual, macs)


def _add_matrix(
    op: Conv | Linear,
    context: LoweringContext,
    weight: Floats,
    label: str,
    residual: str | None,
    macs: LayerMacs,
) -> None:
    """Add a linear layer of vectors with weights [out_features, in_features]."""
    layouts = context.layouts
    source, output = layouts.as_vectors(op.input), layouts.new_buffer(op.output, "vectors")
    added = layouts.as_vectors(residual) if residual else None

    def kernels(planes: PlanesByName) -> list[Candidate]:
        features = np.arange(weight.shape[1], dtype=np.int64)
        layer = Layer(
            weight, op.bias, Taps(features * planes["input"].plane_bytes, features, None),
            planes["input"], planes["output"], planes.get("residual"), op.activation,
        )  # fmt: skip
        return candidates(layer, context.processor, context.threads)

    context.steps.add_candidates(label, _arguments(source, output, added), kernels, macs)


def _arguments(source: str, output: str, residual: str | None) -> dict[str, Argument]:
    buffers = {"input": source, "output": output} | ({"residual": residual} if residual else {})
    return {name: BufferAddress(buffer) for name, buffer in buffers.items()}
