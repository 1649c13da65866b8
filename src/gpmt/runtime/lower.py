"""From a graph to steps: where each value lies, what has to be copied in between, and which kernels can do each step.

A value can lie in three forms: as a PyTorch tensor; as planes of images; and as *vectors*, the planes of
[features, samples], in which a linear layer is a 1×1 convolution. A form is made when an operator first asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from gpmt.runtime.convolution import Array, Candidate, Layer, candidates, mask
from gpmt.runtime.graph import (
    Add,
    Affine,
    Concat,
    Conv,
    Fallback,
    GlobalMean,
    Graph,
    Linear,
    Operator,
    Pair,
    Pool,
    Reshape,
    Value,
)
from gpmt.runtime.kernels import pointwise, pool
from gpmt.runtime.kernels.depthwise import Depthwise, pack_weights
from gpmt.runtime.kernels.pack import ExportImages, ImportImages, Phases, copy_planes
from gpmt.runtime.kernels.spec import Spec
from gpmt.runtime.kernels.vectors import ExportVectors, Flatten, ImportVectors
from gpmt.runtime.layout import Grids, Planes
from gpmt.runtime.target import Target
from gpmt.runtime.windows import Windows

Form = Literal["tensor", "images", "vectors"]
Layouts = Mapping[str, Planes]


@dataclass(frozen=True, eq=False)
class Native:
    """A step in native code.

    Attributes:
        label: what it is, for tables.
        places: for arguments that are pixel (0, 0) of a buffer, its name.
        tensors: for arguments that are the memory of a PyTorch tensor, its value's name.
        candidates: the kernels that can do it, once the layouts are known; the best guess first.
        name: the weights' name in the network.
        dense_macs, kept_macs: multiply-adds of the dense layer, and those with weights that are not zero.
        first_channel: channel of the output where it begins to write.
    """

    label: str
    places: dict[str, str]
    tensors: dict[str, str]
    candidates: Callable[[Layouts], list[Candidate]]
    name: str = ""
    dense_macs: int = 0
    kept_macs: int = 0
    first_channel: int = 0


@dataclass(frozen=True, eq=False)
class OnTorch:
    """A step in PyTorch: takes tensors, gives tensors, all by their values' names."""

    label: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    run: Callable[..., tuple[torch.Tensor, ...]]
    reason: str = ""


Step = Native | OnTorch


@dataclass
class Lowered:
    """A network as steps.

    Attributes:
        steps: in order.
        layouts: of every buffer, by name.
        tensors: shapes of the values that native steps write as PyTorch tensors.
    """

    steps: list[Step] = field(default_factory=list)
    layouts: dict[str, Planes] = field(default_factory=dict)
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)


def lower(graph: Graph, target: Target, threads: int) -> Lowered:
    """Return the steps of a fused graph."""
    lowering = _Lowering(graph, target, threads)
    for operator in graph.operators:
        lowering.operator(operator)
    for name in graph.outputs:
        lowering.tensor(name)
    lowering.result.layouts = lowering.grids.solve()
    return lowering.result


class _Lowering:
    def __init__(self, graph: Graph, target: Target, threads: int) -> None:
        self.graph = replace(graph, values=dict(graph.values))
        self.target, self.threads = target, threads
        self.lanes = target.lanes
        self.result = Lowered()
        self.grids = Grids()
        self.forms: dict[str, dict[str, str]] = {}
        self.phased: dict[tuple[str, Pair, tuple[Pair, ...]], str] = {}
        for name in (*graph.inputs, *graph.constants):
            self.forms[name] = {"tensor": name}

    # Forms of values

    def tensor(self, name: str) -> str:
        """Make sure that a value is there as a PyTorch tensor; return its name."""
        if "tensor" not in self.forms[name]:
            shape = self.graph.values[name].shape
            if "images" in self.forms[name]:
                places = {"input": self.forms[name]["images"]}
                self._native("export", places, {"output": name}, lambda p: ExportImages(self.lanes, p["input"]))
            else:
                places = {"input": self.forms[name]["vectors"]}
                self._native("export", places, {"output": name}, lambda p: ExportVectors(self.lanes, p["input"]))
            self.result.tensors[name] = shape
            self.forms[name]["tensor"] = name
        return name

    def images(self, name: str) -> str:
        """Return the buffer in which a value lies as images."""
        if "images" not in self.forms[name]:
            source = self.tensor(name)
            buffer = self._buffer(name, "images")
            _, channels, height, width = self.graph.values[name].shape
            self._native(
                "import", {"output": buffer}, {"input": source},
                lambda p: ImportImages(self.lanes, channels, height, width, p["output"]),
            )  # fmt: skip
        return self.forms[name]["images"]

    def vectors(self, name: str) -> str:
        """Return the buffer in which a value lies as vectors."""
        if "vectors" not in self.forms[name]:
            images = self.forms[name].get("images")
            if images and _is_pixel(self.graph.values[name].shape):
                return self._flatten(images, name)
            source = {"input": self.tensor(name)}
            buffer = self._buffer(name, "vectors")
            self._native(
                "import", {"output": buffer}, source, lambda p: ImportVectors(self.lanes, p["output"])
            )
        return self.forms[name]["vectors"]

    def _flatten(self, images: str, name: str) -> str:
        """Make vectors, one for each image, and return their buffer; `name` is their value."""
        places = {"input": images, "output": self._buffer(name, "vectors")}
        self._native("flatten", places, {}, lambda p: Flatten(self.lanes, p["input"], p["output"]))
        return places["output"]

    def _value(self, name: str, shape: tuple[int, ...]) -> str:
        self.graph.values[name] = Value(name, shape)
        return name

    def _buffer(self, name: str, form: Form) -> str:
        buffer = f"{name}:{form}"
        shape = self.graph.values[name].shape
        if form == "images":
            self.grids.add(buffer, *shape)  # type: ignore[call-arg]
        else:
            features = _features(shape)
            self.grids.add(buffer, 1, features, 1, int(np.prod(shape)) // features)
        self.forms.setdefault(name, {})[form] = buffer
        return buffer

    def _native(
        self, label: str, places: dict[str, str], tensors: dict[str, str],
        spec: Callable[[Layouts], Spec], arrays: Callable[[Layouts], dict[str, Array]] = lambda _: {}, **more: Any,
    ) -> None:  # fmt: skip
        """Add a step that one kernel can do, made, as its constant arrays are, for the layouts of its places."""

        def candidates(layouts: Layouts) -> list[Candidate]:
            return [Candidate(spec(layouts), 0.0, lambda: arrays(layouts))]

        self._step(label, places, tensors, candidates, **more)

    def _step(
        self, label: str, places: dict[str, str], tensors: dict[str, str],
        candidates: Callable[[Layouts], list[Candidate]], **more: Any,
    ) -> None:  # fmt: skip
        def choices(layouts: Layouts) -> list[Candidate]:
            return candidates({role: layouts[buffer] for role, buffer in places.items()})

        self.result.steps.append(Native(label, places, tensors, choices, **more))

    # Operators

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
                self._native("mean", places, {}, lambda p: pool.GlobalMean(self.lanes, p["input"], p["output"]))
            case Affine():
                source = self._native_form(operator.input)
                output = self._pointwise([source], operator.output)
                self._native(
                    "scale", {"input": source, "output": output}, {},
                    lambda p: pointwise.Affine(self.lanes, p["input"], p["output"], operator.activation),
                    lambda p: {"scale": operator.scale, "shift": operator.shift, "mask": mask(p["output"])},
                )  # fmt: skip
            case Add():
                left = self._native_form(operator.left)
                right = self._native_form(operator.right, like=left)
                output = self._pointwise([left, right], operator.output)
                self._native(
                    "add", {"left": left, "right": right, "output": output}, {},
                    lambda p: pointwise.Add(self.lanes, p["left"], p["right"], p["output"], operator.activation),
                    lambda p: {"mask": mask(p["output"])},
                )  # fmt: skip
            case Concat():
                self._concat(operator)
            case Reshape():
                self._reshape(operator)
            case Fallback():
                reads = tuple(self.tensor(name) for name in operator.inputs)
                self._on_torch(operator.target, reads, operator.outputs, operator.run, operator.reason)

    def _on_torch(
        self, label: str, reads: tuple[str, ...], writes: tuple[str, ...],
        run: Callable[..., tuple[torch.Tensor, ...]], reason: str = "",
    ) -> None:  # fmt: skip
        self.result.steps.append(OnTorch(label, reads, writes, run, reason))
        for name in writes:
            self.forms[name] = {"tensor": name}

    def _io(self, source: str, output: str, form: Form) -> dict[str, str]:
        return {"input": source, "output": self._buffer(output, form)}

    def _native_form(self, name: str, like: str | None = None) -> str:
        """Return the buffer of a value as images, or as vectors if it has no image's shape or one pixel that lies so."""
        wanted = like.rpartition(":")[2] if like else None
        forms = self.forms[name]
        shape = self.graph.values[name].shape
        vectors = ("vectors" in forms and _is_pixel(shape)) or len(shape) != 4
        if wanted == "vectors" or (wanted is None and vectors):
            return self.vectors(name)
        return self.images(name)

    def _pointwise(self, sources: list[str], output: str) -> str:
        form: Form = "vectors" if sources[0].endswith(":vectors") else "images"
        buffer = self._buffer(output, form)
        for source in sources:
            self.grids.join(source, buffer)
        return buffer

    def _conv(self, op: Conv) -> None:
        shape_in, shape_out = self.graph.values[op.input].shape, self.graph.values[op.output].shape
        filters = len(op.weight)
        macs = int(np.prod(shape_out)) * op.weight[0].size
        kept = int(np.prod(shape_out)) // filters * int(np.count_nonzero(op.weight))
        size = "×".join(map(str, op.weight.shape[2:]))
        label = f"conv {size}" + ("" if op.stride == (1, 1) else f" /{op.stride[0]}")
        more = {"name": op.name, "dense_macs": macs, "kept_macs": kept}
        if "vectors" in self.forms[op.input] and _is_pixel(shape_in) and _is_pixel(shape_out):
            # On one pixel only the tap in the middle sees anything.
            y, x = op.padding[0] // op.dilation[0], op.padding[1] // op.dilation[1]
            there = y < op.weight.shape[2] and x < op.weight.shape[3]
            if op.groups == 1 and there and (y * op.dilation[0], x * op.dilation[1]) == op.padding[:2]:
                weight = np.ascontiguousarray(op.weight[:, :, y, x])
                self._matrix(op, weight, label, op.residual, more)
                return
        windows = Windows.of(op, shape_in, shape_out)
        if op.depthwise:
            self._depthwise(op, windows, label, more)
            return
        source = self.images(op.input) if op.stride == (1, 1) else self._phases(op.input, windows)
        residual = self.images(op.residual) if op.residual else None
        output = self._buffer(op.output, "images")
        places = {"input": source, "output": output} | ({"residual": residual} if residual else {})
        for other in (source, residual):
            if other:
                self.grids.join(other, output)
        self.grids.need(source, **windows.needs())
        weight, taps = windows.taps(op.weight)

        def kernels(planes: Layouts) -> list[Candidate]:
            offsets, channel, shift = taps(planes["input"])
            layer = Layer(
                weight, op.bias, offsets, channel, shift,
                planes["input"], planes["output"], planes.get("residual"), op.activation,
            )  # fmt: skip
            return candidates(layer, self.target, self.threads)

        self._step(label, places, {}, kernels, **more)

    def _phases(self, value: str, windows: Windows) -> str:
        """Return the buffer of a value's phases; a tensor that nobody has asked for as images yet becomes phases at once."""
        key = value, windows.stride, windows.phases
        if key not in self.phased:
            stride, phases = windows.stride, windows.phases
            images, channels, height, width = self.graph.values[value].shape
            source = self.forms[value].get("images")
            self.phased[key] = buffer = f"{value}:phases{len(self.phased)}"
            self.grids.add(buffer, images, channels * len(phases), *windows.phase_size)
            if source:
                self._native(
                    "phases", {"input": source, "output": buffer}, {},
                    lambda p: Phases(self.lanes, p["input"], p["output"], stride, phases),
                )  # fmt: skip
            else:
                self._native(
                    "import", {"output": buffer}, {"input": self.tensor(value)},
                    lambda p: ImportImages(self.lanes, channels, height, width, p["output"], stride, phases),
                )  # fmt: skip
        return self.phased[key]

    def _depthwise(self, op: Conv, windows: Windows, label: str, more: dict[str, Any]) -> None:
        source = self.images(op.input)
        residual = self.images(op.residual) if op.residual else None
        output = self._buffer(op.output, "images")
        if op.stride == (1, 1):
            self.grids.join(source, output)
        if residual:
            self.grids.join(residual, output)
        self.grids.need(source, **windows.needs(phases=False))
        places = {"input": source, "output": output} | ({"residual": residual} if residual else {})
        self._native(
            label + " depthwise", places, {},
            lambda p: Depthwise(
                self.lanes, p["input"], p["output"], (op.weight.shape[2], op.weight.shape[3]),
                op.stride, op.padding[:2], op.dilation, p.get("residual"), op.activation,
            ),
            lambda p: {"weights": pack_weights(op.weight, op.bias), "mask": mask(p["output"])},
            **more,
        )  # fmt: skip

    def _linear(self, op: Linear) -> None:
        rows = int(np.prod(self.graph.values[op.output].shape)) // len(op.weight)
        if any(_is_pixel(self.graph.values[name].shape) for name in (op.input, op.output)):
            # Images of one pixel lie as vectors of their channels; here their features are the last dimension.
            source = self._value(f"{op.output}:before", (rows, op.weight.shape[1]))
            output = self._value(f"{op.output}:after", (rows, len(op.weight)))
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
        source, output = self.vectors(op.input), self._buffer(op.output, "vectors")
        added = self.vectors(residual) if residual else None
        places = {"input": source, "output": output} | ({"residual": added} if added else {})

        def kernels(planes: Layouts) -> list[Candidate]:
            features = np.arange(weight.shape[1], dtype=np.int64)
            layer = Layer(
                weight, op.bias, features * 4 * planes["input"].plane, features, None,
                planes["input"], planes["output"], planes.get("residual"), op.activation,
            )  # fmt: skip
            return candidates(layer, self.target, self.threads)

        self._step(label, places, {}, kernels, **more)

    def _pool(self, op: Pool) -> None:
        source = self.images(op.input)
        output = self._buffer(op.output, "images")
        places = {"input": source, "output": output}
        if op.kind == "max":
            self._native(
                "max pool", places, {},
                lambda p: pool.MaxPool(self.lanes, p["input"], p["output"], op.kernel, op.stride, op.padding),
            )  # fmt: skip
            return

        def mean(planes: Layouts) -> list[Candidate]:
            spec = pool.MeanPool(
                self.lanes, planes["input"], planes["output"], op.kernel, op.stride, op.padding, op.count_padding
            )
            return [Candidate(spec, 0.0, lambda: {"scales": spec.scales()})]

        self._step("mean pool", places, {}, mean)

    def _concat(self, op: Concat) -> None:
        sources = [self.images(part) for part in op.parts]
        output = self._buffer(op.output, "images")
        first = 0
        for part, source in zip(op.parts, sources, strict=True):
            places = {"input": source, "output": output}
            self._native(
                "concat", places, {}, lambda p: copy_planes(self.lanes, p["input"], p["output"]), first_channel=first
            )
            first += self.graph.values[part].shape[1]

    def _reshape(self, op: Reshape) -> None:
        before, after = self.graph.values[op.input].shape, self.graph.values[op.output].shape
        forms = self.forms[op.input]
        if "vectors" in forms and _features(before) == _features(after):
            self.forms[op.output] = {"vectors": forms["vectors"]}
        elif "images" in forms and len(after) == 2 and before[0] == after[0]:
            self._flatten(forms["images"], op.output)
        else:
            source = self.tensor(op.input)
            self._on_torch("reshape", (source,), (op.output,), lambda tensor: (tensor.reshape(after),))


def _is_pixel(shape: tuple[int, ...]) -> bool:
    """Whether a value is images of one pixel: vectors whose features are the channels."""
    return len(shape) == 4 and shape[2:] == (1, 1)


def _features(shape: tuple[int, ...]) -> int:
    """Return how many features a value has as vectors: its last dimension, or the channels of a single pixel."""
    return shape[1] if _is_pixel(shape) else shape[-1]
