"""The layouts in which a value is in memory; each is computed when an operator first asks for it.

A value can be

* a *tensor*: a PyTorch tensor;
* *images*: zero-padded planes, one for each channel, in a buffer;
* *phases*: for a convolution with a stride, the planes of images, split by the remainders of row and column;
* *vectors*: planes of [features, samples] in a buffer, on which a linear layer is a 1×1 convolution. Tokens
  [n, tokens, features] are n · tokens samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from gpmt.runtime.ir.values import Pair
from gpmt.runtime.kernels.export_images import ExportImagesKernel
from gpmt.runtime.kernels.export_vectors import ExportVectorsKernel
from gpmt.runtime.kernels.flatten import FlattenKernel
from gpmt.runtime.kernels.import_images import ImportImagesKernel
from gpmt.runtime.kernels.import_vectors import ImportVectorsKernel
from gpmt.runtime.kernels.phases import PhasesKernel
from gpmt.runtime.layout.taps import ConvWindows
from gpmt.runtime.lowering.step_builder import StepBuilder
from gpmt.runtime.lowering.steps import (
    Argument,
    BufferAddress,
    InputStride,
    InputTensor,
    Number,
    OutputTensor,
)

BufferLayout = Literal["images", "vectors"]


class ValueLayouts:
    """Which layouts of a value there are so far, and the steps that convert one into another.

    Args:
        steps: where conversions are added.
        tensors: names of the values that are tensors from the start.
        lanes: values in a vector register.
    """

    def __init__(self, steps: StepBuilder, tensors: Iterable[str], lanes: int) -> None:
        self._steps = steps
        self._lanes = lanes
        self._tensors = set(tensors)
        self._buffers: dict[str, dict[BufferLayout, str]] = {}
        self._phases: dict[tuple[str, Pair, tuple[Pair, ...]], str] = {}

    def buffer(self, name: str, layout: BufferLayout) -> str | None:
        """Return the buffer that holds a value in a layout, if there is one already."""
        return self._buffers.get(name, {}).get(layout)

    def new_buffer(self, name: str, layout: BufferLayout) -> str:
        """Return a new buffer for a value in a layout."""
        buffer = f"{name}:{layout}"
        shape = self._steps.shape(name)
        if layout == "images":
            self._steps.solver.add(buffer, *shape)
        else:
            features = features_of(shape)
            self._steps.solver.add(buffer, 1, features, 1, int(np.prod(shape)) // features)
        self.set_buffer(name, layout, buffer)
        return buffer

    def set_buffer(self, name: str, layout: BufferLayout, buffer: str) -> None:
        """Say that a buffer holds a value in a layout."""
        self._buffers.setdefault(name, {})[layout] = buffer

    def set_tensor(self, name: str) -> None:
        """Say that a value is a tensor."""
        self._tensors.add(name)

    def as_tensor(self, name: str) -> str:
        """Convert a value to a tensor, unless it is one; return its name."""
        if name in self._tensors:
            return name
        images = self.buffer(name, "images")
        buffer = images or self._buffers[name]["vectors"]
        arguments: dict[str, Argument] = {"input": BufferAddress(buffer), "output": OutputTensor(name)}
        kernel = ExportImagesKernel if images else ExportVectorsKernel
        self._steps.add_kernel("export", arguments, lambda planes: kernel(self._lanes, planes["input"]))
        self._steps.tensor_shapes[name] = self._steps.shape(name)
        self.set_tensor(name)
        return name

    def as_images(self, name: str) -> str:
        """Return the buffer that holds a value as images, converted if need be."""
        buffer = self.buffer(name, "images")
        if buffer is None:
            source = self.as_tensor(name)
            buffer = self.new_buffer(name, "images")
            self._import_images(source, buffer)
        return buffer

    def as_vectors(self, name: str) -> str:
        """Return the buffer that holds a value as vectors, converted if need be."""
        buffer = self.buffer(name, "vectors")
        if buffer is not None:
            return buffer
        shape = self._steps.shape(name)
        images = self.buffer(name, "images")
        if images and is_pixel(shape):
            return self.flatten(images, name)
        source = InputTensor(self.as_tensor(name), contiguous=True)
        buffer = self.new_buffer(name, "vectors")
        arguments: dict[str, Argument] = {
            "input": source, "output": BufferAddress(buffer), "row": Number(4 * features_of(shape)),
        }  # fmt: skip
        self._steps.add_kernel(
            "import", arguments, lambda planes: ImportVectorsKernel(self._lanes, planes["output"])
        )
        return buffer

    def as_layout(self, name: str, layout: BufferLayout) -> str:
        """Return the buffer that holds a value in a layout, converted if need be."""
        return self.as_images(name) if layout == "images" else self.as_vectors(name)

    def pointwise_layout(self, name: str) -> BufferLayout:
        """Return the layout in which an elementwise operator reads a value.

        Images, except for values that are not images and for those that are only vectors already.
        """
        vectors = len(self._steps.shape(name)) != 4 or (
            self.buffer(name, "vectors") is not None and self.buffer(name, "images") is None
        )
        return "vectors" if vectors else "images"

    def flatten(self, images: str, name: str) -> str:
        """Convert images, each to one vector, and return the buffer, which then holds the value `name`."""
        buffer = self.new_buffer(name, "vectors")
        arguments = {"input": BufferAddress(images), "output": BufferAddress(buffer)}
        self._steps.add_kernel(
            "flatten", arguments, lambda planes: FlattenKernel(self._lanes, planes["input"], planes["output"])
        )
        return buffer

    def as_phases(self, name: str, windows: ConvWindows) -> str:
        """Return the buffer that holds the phases of a value; from a tensor they are read without the images."""
        key = name, windows.stride, windows.phases
        if key in self._phases:
            return self._phases[key]
        stride, phases = windows.stride, windows.phases
        batch, channels, _, _ = self._steps.shape(name)
        images = self.buffer(name, "images")
        self._phases[key] = buffer = f"{name}:phases{len(self._phases)}"
        self._steps.solver.add(buffer, batch, channels * len(phases), *windows.phase_size)
        if images is None:
            self._import_images(self.as_tensor(name), buffer, stride, phases)
            return buffer
        arguments = {"input": BufferAddress(images), "output": BufferAddress(buffer)}
        self._steps.add_kernel(
            "phases", arguments,
            lambda planes: PhasesKernel(self._lanes, planes["input"], planes["output"], stride, phases),
        )  # fmt: skip
        return buffer

    def _import_images(
        self, name: str, buffer: str, stride: Pair = (1, 1), phases: tuple[Pair, ...] = ((0, 0),)
    ) -> None:
        _, channels, height, width = self._steps.shape(name)
        strides = {f"stride_{axis}": InputStride(name, i) for i, axis in enumerate("nchw")}
        self._steps.add_kernel(
            "import", {"input": InputTensor(name), "output": BufferAddress(buffer), **strides},
            lambda planes: ImportImagesKernel(
                self._lanes, channels, height, width, planes["output"], stride, phases
            ),
        )  # fmt: skip


def is_pixel(shape: tuple[int, ...]) -> bool:
    """Return whether a value is images of one pixel, which are vectors whose features are the channels."""
    return len(shape) == 4 and shape[2:] == (1, 1)


def features_of(shape: tuple[int, ...]) -> int:
    """Return the features of a value as vectors: its last dimension, the channels of single pixels, or one."""
    return shape[1] if is_pixel(shape) else shape[-1] if shape else 1
