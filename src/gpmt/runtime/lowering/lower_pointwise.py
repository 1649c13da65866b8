"""Lowering rules of elementwise operators."""

from __future__ import annotations

import numpy as np

from gpmt.runtime.ir.operators import Add, Affine, Multiply
from gpmt.runtime.kernels.add import AddKernel
from gpmt.runtime.kernels.affine import AffineKernel
from gpmt.runtime.kernels.gate import GateKernel
from gpmt.runtime.kernels.multiply import MultiplyKernel
from gpmt.runtime.kernels.shared.pointwise import PointwiseKernel
from gpmt.runtime.lowering.candidates import Constants
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import BufferAddress, PlanesByName
from gpmt.runtime.lowering.value_layouts import BufferLayout, features_of


@lowers(Affine)
def lower_affine(op: Affine, context: LoweringContext) -> None:
    """Scale and shift."""
    arrays: Constants = {"scale": op.scale, "shift": op.shift}
    layouts, shape = context.layouts, context.steps.shape(op.input)
    layout: BufferLayout = "images" if op.axis == 1 else "vectors"
    uniform = all(np.all(part == part[0]) for part in (op.scale, op.shift))
    if uniform and (wanted := layouts.pointwise_layout(op.input)) != layout:
        # One scale for all: it does not matter which dimension is the channels.
        layout, count = wanted, features_of(shape) if wanted == "vectors" else shape[1]
        arrays = {name: np.full(count, part[0], np.float32) for name, part in arrays.items()}
    _add_elementwise(context, "scale", AffineKernel, op, (op.input, op.input), layout, arrays)


@lowers(Add)
def lower_add(op: Add, context: LoweringContext) -> None:
    """Add."""
    layout = _common_layout(context, op.left, op.right)
    _add_elementwise(context, "add", AddKernel, op, (op.left, op.right), layout)


@lowers(Multiply)
def lower_multiply(op: Multiply, context: LoweringContext) -> None:
    """Multiply two values of one shape, or images by a factor for each channel."""
    if context.steps.shape(op.left) == context.steps.shape(op.right):
        layout = _common_layout(context, op.left, op.right)
        _add_elementwise(context, "multiply", MultiplyKernel, op, (op.left, op.right), layout)
        return
    layouts = context.layouts
    left = layouts.as_images(op.left)
    right = layouts.as_layout(op.right, layouts.pointwise_layout(op.right))
    output = layouts.new_buffer(op.output, "images")
    context.steps.solver.share_pitch(left, output)
    _add_step(context, "gate", GateKernel, op, (left, right, output))


def _common_layout(context: LoweringContext, left: str, right: str) -> BufferLayout:
    """Return the layout of two values of one shape that needs the fewest copies."""
    wanted = [context.layouts.pointwise_layout(name) for name in (left, right)]
    there = [context.layouts.buffer(name, wanted[0]) is not None for name in (left, right)]
    return wanted[0] if any(there) else wanted[1]


def _add_elementwise(
    context: LoweringContext, label: str, kernel: type[PointwiseKernel], op: Affine | Add | Multiply,
    inputs: tuple[str, str], layout: BufferLayout, arrays: Constants | None = None,
) -> None:  # fmt: skip
    layouts = context.layouts
    left, right = (layouts.as_layout(name, layout) for name in inputs)
    output = layouts.new_buffer(op.output, layout)
    for source in (left, right):
        context.steps.solver.share_pitch(source, output)
    _add_step(context, label, kernel, op, (left, right, output), arrays)


def _add_step(
    context: LoweringContext, label: str, kernel: type[PointwiseKernel], op: Affine | Add | Multiply,
    buffers: tuple[str, str, str], arrays: Constants | None = None,
) -> None:  # fmt: skip
    names = "left", "right", "output"

    def make_spec(planes: PlanesByName) -> PointwiseKernel:
        left = planes["left"]
        return kernel(context.lanes, left, planes.get("right", left), planes["output"], op.activation)

    def make_arrays(spec: PointwiseKernel, planes: PlanesByName) -> Constants:
        return {**(arrays or {}), "mask": planes["output"].mask(), "sizes": spec.sizes()}

    given = zip(names, buffers, strict=True)
    arguments = {name: BufferAddress(buffer) for name, buffer in given if name in kernel.ARGS}
    context.steps.add_kernel(label, arguments, make_spec, make_arrays)
