"""The forms in which a value lies in memory; each is made when an operator first asks for it.

A value can be a PyTorch tensor; planes of images; the *phases* of such planes, for a stride; and *vectors*, the
planes of [features, samples], in which a linear layer is a 1×1 convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.codegen.processor import Processor
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.values import Pair, Value
from gpmt.runtime.kernels.pack import ExportImagesKernel, ImportImagesKernel, PhasesKernel
from gpmt.runtime.kernels.vectors import ExportVectorsKernel, FlattenKernel, ImportVectorsKernel
from gpmt.runtime.layout.solver import LayoutSolver
from gpmt.runtime.layout.taps import ConvWindows
from gpmt.runtime.lowering.candidates import Array, Candidate
from gpmt.runtime.lowering.steps import Layouts, Lowered, Native, OnTorch

Form = Literal["tensor", "images", "vectors"]


class Forms:
    """The values of a graph, and the steps so far, those that bring values into other forms included."""

    def __init__(self, graph: Graph, processor: Processor) -> None:
        self.graph = replace(graph, values=dict(graph.values))
        self.lanes = processor.lanes
        self.result = Lowered()
        self.solver = LayoutSolver()
        self.forms: dict[str, dict[str, str]] = {}
        self.phased: dict[tuple[str, Pair, tuple[Pair, ...]], str] = {}
        for name in (*graph.inputs, *graph.constants):
            self.forms[name] = {"tensor": name}

    def tensor(self, name: str) -> str:
        """Make sure that a value is there as a PyTorch tensor; return its name."""
        if "tensor" not in self.forms[name]:
            shape = self.graph.values[name].shape
            if "images" in self.forms[name]:
                places = {"input": self.forms[name]["images"]}
                self.native(
                    "export", places, {"output": name}, lambda p: ExportImagesKernel(self.lanes, p["input"])
                )
            else:
                places = {"input": self.forms[name]["vectors"]}
                self.native(
                    "export", places, {"output": name}, lambda p: ExportVectorsKernel(self.lanes, p["input"])
                )
            self.result.tensors[name] = shape
            self.forms[name]["tensor"] = name
        return name

    def images(self, name: str) -> str:
        """Return the buffer in which a value lies as images."""
        if "images" not in self.forms[name]:
            source = self.tensor(name)
            buffer = self.buffer(name, "images")
            _, channels, height, width = self.graph.values[name].shape
            self.native(
                "import", {"output": buffer}, {"input": source},
                lambda p: ImportImagesKernel(self.lanes, channels, height, width, p["output"]),
            )  # fmt: skip
        return self.forms[name]["images"]

    def vectors(self, name: str) -> str:
        """Return the buffer in which a value lies as vectors."""
        if "vectors" not in self.forms[name]:
            images = self.forms[name].get("images")
            if images and is_pixel(self.graph.values[name].shape):
                return self.flatten(images, name)
            source = {"input": self.tensor(name)}
            buffer = self.buffer(name, "vectors")
            self.native(
                "import", {"output": buffer}, source, lambda p: ImportVectorsKernel(self.lanes, p["output"])
            )
        return self.forms[name]["vectors"]

    def flatten(self, images: str, name: str) -> str:
        """Make vectors, one for each image, and return their buffer; `name` is their value."""
        places = {"input": images, "output": self.buffer(name, "vectors")}
        self.native("flatten", places, {}, lambda p: FlattenKernel(self.lanes, p["input"], p["output"]))
        return places["output"]

    def value(self, name: str, shape: tuple[int, ...]) -> str:
        """Add a value that the network does not have; return its name."""
        while name in self.graph.values:
            name += "'"
        self.graph.values[name] = Value(name, shape)
        return name

    def buffer(self, name: str, form: Form) -> str:
        """Return a new buffer for a form of a value, by its name."""
        buffer = f"{name}:{form}"
        shape = self.graph.values[name].shape
        if form == "images":
            self.solver.add(buffer, *shape)
        else:
            features = features_of(shape)
            self.solver.add(buffer, 1, features, 1, int(np.prod(shape)) // features)
        self.forms.setdefault(name, {})[form] = buffer
        return buffer

    def native(
        self, label: str, places: dict[str, str], tensors: dict[str, str],
        spec: Callable[[Layouts], KernelSpec],
        arrays: Callable[[Layouts], dict[str, Array]] = lambda _: {}, **more: Any,
    ) -> None:  # fmt: skip
        """Add a step that one kernel can do, made, as its constant arrays are, for the layouts of its places."""

        def candidates(layouts: Layouts) -> list[Candidate]:
            return [Candidate(spec(layouts), 0.0, lambda: arrays(layouts))]

        self.step(label, places, tensors, candidates, **more)

    def step(
        self, label: str, places: dict[str, str], tensors: dict[str, str],
        candidates: Callable[[Layouts], list[Candidate]], **more: Any,
    ) -> None:  # fmt: skip
        """Add a step that several kernels can do; they are made for the layouts of its places."""

        def choices(layouts: Layouts) -> list[Candidate]:
            return candidates({role: layouts[buffer] for role, buffer in places.items()})

        self.result.steps.append(Native(label, places, tensors, choices, **more))

    def on_torch(
        self, label: str, reads: tuple[str, ...], writes: tuple[str, ...],
        run: Callable[..., tuple[torch.Tensor, ...]], reason: str = "",
    ) -> None:  # fmt: skip
        """Add a step that PyTorch does."""
        makes = tuple(self.graph.values[name] for name in writes)
        self.result.steps.append(OnTorch(label, reads, makes, run, reason))
        for name in writes:
            self.forms[name] = {"tensor": name}

    def either(self, name: str, like: str | None = None) -> str:
        """Return the buffer of a value as images, or as vectors if it is no image, or one pixel that lies so."""
        wanted = like.rpartition(":")[2] if like else None
        forms = self.forms[name]
        shape = self.graph.values[name].shape
        vectors = ("vectors" in forms and is_pixel(shape)) or len(shape) != 4
        if wanted == "vectors" or (wanted is None and vectors):
            return self.vectors(name)
        return self.images(name)

    def phases(self, value: str, windows: ConvWindows) -> str:
        """Return the buffer of a value's phases; from a tensor they are made at once, without the images."""
        key = value, windows.stride, windows.phases
        if key not in self.phased:
            stride, phases = windows.stride, windows.phases
            images, channels, height, width = self.graph.values[value].shape
            source = self.forms[value].get("images")
            self.phased[key] = buffer = f"{value}:phases{len(self.phased)}"
            self.solver.add(buffer, images, channels * len(phases), *windows.phase_size)
            if source:
                self.native(
                    "phases", {"input": source, "output": buffer}, {},
                    lambda p: PhasesKernel(self.lanes, p["input"], p["output"], stride, phases),
                )  # fmt: skip
            else:
                self.native(
                    "import", {"output": buffer}, {"input": self.tensor(value)},
                    lambda p: ImportImagesKernel(self.lanes, channels, height, width, p["output"], stride, phases),
                )  # fmt: skip
        return self.phased[key]


def is_pixel(shape: tuple[int, ...]) -> bool:
    """Whether a value is images of one pixel: vectors whose features are the channels."""
    return len(shape) == 4 and shape[2:] == (1, 1)


def features_of(shape: tuple[int, ...]) -> int:
    """Return how many features a value has as vectors: its last dimension, the channels of a single pixel, or one."""
    return shape[1] if is_pixel(shape) else shape[-1] if shape else 1
