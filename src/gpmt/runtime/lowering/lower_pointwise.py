"""Lowering rules of elementwise operators."""

from __future__ import annotations

from gpmt.runtime.ir.operators import Add, Affine, Multiply
from gpmt.runtime.kernels.add import AddKernel
from gpmt.runtime.kernels.affine import AffineKernel
from gpmt.runtime.kernels.gate import GateKernel
from gpmt.runtime.kernels.multiply import MultiplyKernel
from gpmt.runtime.kernels.shared.pointwise import PointwiseKernel
from gpmt.runtime.lowering.candidates import Constants
from gpmt.runtime.lowering.rules import LoweringContext, lowers
from gpmt.runtime.lowering.steps import BufferAddress, PlanesByName


@lowers(Affine)
def lower_affine(op: Affine, context: LoweringContext) -> None:
    """Scale and shift."""
    arrays: Constants = {"scale": op.scale, "shift": op.shift}
    _add_elementwise(context, "scale", AffineKernel, op, (op.input, op.input), arrays)


@lowers(Add)
def lower_add(op: Add, context: LoweringContext) -> None:
    """Add."""
    _add_elementwise(context, "add", AddKernel, op, (op.left, op.right))


@lowers(Multiply)
def lower_multiply(op: Multiply, context: LoweringContext) -> None:
    """Multiply two values of one shape, or images by a factor for each channel."""
    if context.steps.shape(op.left) == context.steps.shape(op.right):
        _add_elementwise(context, "multiply", MultiplyKernel, op, (op.left, op.right))
        return
    layouts = context.layouts
    left = layouts.as_images(op.left)
    right = layouts.as_layout(op.right, layouts.pointwise_layout(op.right))
    output = layouts.new_buffer(op.output, "images")
    context.steps.solver.share_pitch(left, output)
    _add_step(context, "gate", GateKernel, op, (left, right, output))


def _add_elementwise(
    context: LoweringContext, label: str, kernel: type[PointwiseKernel], op: Affine | Add | Multiply,
    inputs: tuple[str, str], arrays: Constants | None = None,
) -> None:  # fmt: skip
    layouts = context.layouts
    layout = layouts.pointwise_layout(inputs[0])
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
