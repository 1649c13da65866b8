"""From a graph to steps: which kernels can do each operator, and what has to be copied in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gpmt.runtime.codegen.processor import Processor
from gpmt.runtime.ir import operators
from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator
from gpmt.runtime.ir.operators import (
    Concat,
    Conv,
    Fallback,
    GlobalMean,
    Linear,
    Pool,
    Reshape,
    Slice,
    Upsample,
)
from gpmt.runtime.kernels import pool, upsample
from gpmt.runtime.kernels.depthwise import DepthwiseConvKernel, pack_weights
from gpmt.runtime.kernels.pointwise import AddKernel, AffineKernel, CopyKernel, GateKernel, MultiplyKernel
from gpmt.runtime.layout.planes import OVERREAD
from gpmt.runtime.layout.taps import ConvWindows
from gpmt.runtime.lowering.candidates import Array, Candidate, Layer, candidates
from gpmt.runtime.lowering.steps import Layouts, Lowered
from gpmt.runtime.lowering.value_layouts import Form, Forms, features_of, is_pixel

_MOST_TAPS = 256  # of a depthwise convolution's own kernel, which has instructions for each


def lower(graph: Graph, processor: Processor, threads: int) -> Lowered:
    """Return the steps of a fused graph."""
    lowering = _Lowering(graph, processor, threads)
    for operator in graph.operators:
        lowering.operator(operator)
    for name in graph.outputs:
        lowering.tensor(name)
    lowering.result.layouts = lowering.solver.solve()
    return lowering.result


class _Lowering(Forms):
    def __init__(self, graph: Graph, processor: Processor, threads: int) -> None:
        super().__init__(graph, processor)
        self.processor, self.threads = processor, threads

    def operator(self, operator: Operator) -> None:
        """Add the steps of an operator."""
        match operator:
            case Conv():
                self._conv(operator)
            case Linear():
                self._linear(operator)
            case Pool():
                self._pool(operator)
            case GlobalMean():
                places = self._io(self.images(operator.input), operator.output, "vectors")
                self.native(
                    "mean", places, {}, lambda p: pool.GlobalMeanKernel(self.lanes, p["input"], p["output"])
                )
            case operators.Affine():
                arrays = {"scale": operator.scale, "shift": operator.shift}
                self._pointwise("scale", AffineKernel, operator, (operator.input,), arrays)
            case operators.Add():
                self._pointwise("add", AddKernel, operator, (operator.left, operator.right), {})
            case operators.Multiply():
                self._multiply(operator)
            case Concat():
                self._concat(operator)
            case Slice():
                self._slice(operator)
            case Upsample():
                places = self._io(self.images(operator.input), operator.output, "images")
                self.native(
                    "upsample", places, {},
                    lambda p: upsample.UpsampleKernel(self.lanes, p["input"], p["output"], operator.factor),
                )  # fmt: skip
            case Reshape():
                self._reshape(operator)
            case Fallback():
                reads = tuple(self.tensor(name) for name in operator.inputs)
                self.on_torch(operator.target, reads, operator.outputs, operator.calls, operator.reason)

    def _io(self, source: str, output: str, form: Form) -> dict[str, str]:
        return {"input": source, "output": self.buffer(output, form)}

    def _pointwise(
        self, label: str, kernel: type[AffineKernel | AddKernel | MultiplyKernel],
        op: operators.Affine | operators.Add | operators.Multiply,
        values: tuple[str, ...], arrays: Mapping[str, Array],
    ) -> None:  # fmt: skip
        left = self.either(values[0])
        right = self.either(values[-1], like=left)
        output = self.buffer(op.output, "vectors" if left.endswith(":vectors") else "images")
        for source in (left, right):
            self.solver.share_pitch(source, output)
        self._in_step(label, kernel, op.activation, (left, right, output), arrays)

    def _multiply(self, op: operators.Multiply) -> None:
        if self.graph.values[op.left].shape == self.graph.values[op.right].shape:
            self._pointwise("multiply", MultiplyKernel, op, (op.left, op.right), {})
            return
        left, right = self.images(op.left), self.either(op.right)
        output = self.buffer(op.output, "images")
        self.solver.share_pitch(left, output)
        self._in_step("gate", GateKernel, op.activation, (left, right, output), {})

    def _in_step(
        self, label: str, kernel: type[AffineKernel | AddKernel | MultiplyKernel | GateKernel],
        activation: Activation,
        buffers: tuple[str, str, str], arrays: Mapping[str, Array],
    ) -> None:  # fmt: skip
        places = dict(zip(("left", "right", "output"), buffers, strict=True))

        def candidates(p: Layouts) -> list[Candidate]:
            spec = kernel(self.lanes, p["left"], p["right"], p["output"], activation)
            return [
                Candidate(
                    spec, 0.0, lambda: {**arrays, "mask": p["output"].mask(), "numbers": spec.numbers()}
                )
            ]

        self.step(label, places, {}, candidates)

    def _conv(self, op: Conv) -> None:
        shape_in, shape_out = self.graph.values[op.input].shape, self.graph.values[op.output].shape
        filters = len(op.weight)
        macs = int(np.prod(shape_out)) * op.weight[0].size
        kept = int(np.prod(shape_out)) // filters * int(np.count_nonzero(op.weight))
        size = "×".join(map(str, op.weight.shape[2:]))
        label = f"conv {size}" + ("" if op.stride == (1, 1) else f" /{op.stride[0]}")
        more = {"name": op.name, "dense_macs": macs, "kept_macs": kept}
        if "vectors" in self.forms[op.input] and is_pixel(shape_in) and is_pixel(shape_out):
            # On one pixel only the tap in the middle sees anything.
            y, x = op.padding[0] // op.dilation[0], op.padding[1] // op.dilation[1]
            there = y < op.weight.shape[2] and x < op.weight.shape[3]
            if op.groups == 1 and there and (y * op.dilation[0], x * op.dilation[1]) == op.padding[:2]:
                weight = np.ascontiguousarray(op.weight[:, :, y, x])
                self._matrix(op, weight, label, op.residual, more)
                return
        windows = ConvWindows.of(op, shape_in, shape_out)
        # Vectors of pixels that lie far apart would end beyond what may be read.
        close = op.stride[1] * self.lanes <= OVERREAD // 2
        if op.depthwise and close and op.weight[0].size <= _MOST_TAPS:
            self._depthwise(op, windows, label, more)
            return
        source = self.images(op.input) if op.stride == (1, 1) else self.phases(op.input, windows)
        residual = self.images(op.residual) if op.residual else None
        output = self.buffer(op.output, "images")
        places = {"input": source, "output": output} | ({"residual": residual} if residual else {})
        for other in (source, residual):
            if other:
                self.solver.share_pitch(other, output)
        self.solver.need_zeros(source, **windows.zeros_read())
        weight = op.weight.reshape(filters, -1)

        def kernels(planes: Layouts) -> list[Candidate]:
            taps = windows.taps(planes["input"])
            layer = Layer(
                weight, op.bias, taps.offsets, taps.channels, taps.filter_offsets,
                planes["input"], planes["output"], planes.get("residual"), op.activation,
            )  # fmt: skip
            return candidates(layer, self.processor, self.threads)

        self.step(label, places, {}, kernels, **more)

    def _depthwise(self, op: Conv, windows: ConvWindows, label: str, more: dict[str, Any]) -> None:
        source = self.images(op.input)
        residual = self.images(op.residual) if op.residual else None
        output = self.buffer(op.output, "images")
        if op.stride == (1, 1):
            self.solver.share_pitch(source, output)
        if residual:
            self.solver.share_pitch(residual, output)
        self.solver.need_zeros(source, **windows.zeros_read(phases=False))
        places = {"input": source, "output": output} | ({"residual": residual} if residual else {})
        self.native(
            label + " depthwise", places, {},
            lambda p: DepthwiseConvKernel(
                self.lanes, p["input"], p["output"], (op.weight.shape[2], op.weight.shape[3]),
                op.stride, op.padding[:2], op.dilation, p.get("residual"), op.activation,
            ),
            lambda p: {"weights": pack_weights(op.weight, op.bias), "mask": p["output"].mask()},
            **more,
        )  # fmt: skip

    def _linear(self, op: Linear) -> None:
        rows = int(np.prod(self.graph.values[op.output].shape)) // len(op.weight)
        if any(is_pixel(self.graph.values[name].shape) for name in (op.input, op.output)):
            # Images of one pixel lie as vectors of their channels; here their features are the last dimension.
            source = self.value(f"{op.output}:before", (rows, op.weight.shape[1]))
            output = self.value(f"{op.output}:after", (rows, len(op.weight)))
            self._reshape(Reshape(op.input, source))
            self._linear(replace(op, input=source, output=output))
            self._reshape(Reshape(output, op.output))
            return
        more = {
            "name": op.name,
            "dense_macs": rows * op.weight.size,
            "kept_macs": rows * int(np.count_nonzero(op.weight)),
        }
        self._matrix(op, op.weight, "linear", None, more)

    def _matrix(
        self, op: Conv | Linear, weight: np.ndarray, label: str, residual: str | None, more: dict[str, Any]
    ) -> None:
        source, output = self.vectors(op.input), self.buffer(op.output, "vectors")
        added = self.vectors(residual) if residual else None
        places = {"input": source, "output": output} | ({"residual": added} if added else {})

        def kernels(planes: Layouts) -> list[Candidate]:
            features = np.arange(weight.shape[1], dtype=np.int64)
            layer = Layer(
                weight, op.bias, features * planes["input"].plane_bytes, features, None,
                planes["input"], planes["output"], planes.get("residual"), op.activation,
            )  # fmt: skip
            return candidates(layer, self.processor, self.threads)

        self.step(label, places, {}, kernels, **more)

    def _pool(self, op: Pool) -> None:
        source = self.images(op.input)
        output = self.buffer(op.output, "images")
        places = {"input": source, "output": output}
        # Of one window across, how far it is to the next does not matter, but kernels would reach as far.
        stride = op.stride if self.graph.values[op.output].shape[3] > 1 else (op.stride[0], 1)
        if op.kind == "max":
            self.native(
                "max pool", places, {},
                lambda p: pool.MaxPoolKernel(self.lanes, p["input"], p["output"], op.kernel, stride, op.padding),
            )  # fmt: skip
            return

        def mean(planes: Layouts) -> list[Candidate]:
            spec = pool.MeanPoolKernel(
                self.lanes,
                planes["input"],
                planes["output"],
                op.kernel,
                stride,
                op.padding,
                op.count_padding,
            )
            return [Candidate(spec, 0.0, lambda: {"scales": spec.scales()})]

        self.step("mean pool", places, {}, mean)

    def _concat(self, op: Concat) -> None:
        sources = [self.images(part) for part in op.parts]
        output = self.buffer(op.output, "images")
        first = 0
        for part, source in zip(op.parts, sources, strict=True):
            self._copy("concat", source, output, first_channel=first)
            first += self.graph.values[part].shape[1]

    def _slice(self, op: Slice) -> None:
        source = self.images(op.input)
        self._copy("slice", source, self.buffer(op.output, "images"), from_channel=op.first)

    def _copy(self, label: str, source: str, output: str, **channels: int) -> None:
        """Add a step that copies channels."""
        self.solver.share_pitch(source, output)

        def candidates(p: Layouts) -> list[Candidate]:
            spec = CopyKernel(self.lanes, p["left"], p["left"], p["output"])
            return [Candidate(spec, 0.0, lambda: {"numbers": spec.numbers()})]

        self.step(label, {"left": source, "output": output}, {}, candidates, **channels)

    def _reshape(self, op: Reshape) -> None:
        before, after = self.graph.values[op.input].shape, self.graph.values[op.output].shape
        forms = self.forms[op.input]
        if "vectors" in forms and features_of(before) == features_of(after):
            self.forms[op.output] = {"vectors": forms["vectors"]}
        elif "images" in forms and len(after) == 2 and before[0] == after[0]:
            self.flatten(forms["images"], op.output)
        else:
            source = self.tensor(op.input)
            self.on_torch("reshape", (source,), (op.output,), lambda tensor: (tensor.reshape(after),))
