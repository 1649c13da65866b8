"""Collects the steps of a graph, and what they ask of the planes of their buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from gpmt.runtime.codegen.kernel import KernelSpec
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.values import Value
from gpmt.runtime.layout.solver import LayoutSolver
from gpmt.runtime.lowering.candidates import Candidate, Constants
from gpmt.runtime.lowering.steps import (
    NO_WEIGHTS,
    Argument,
    LayerMacs,
    LoweredGraph,
    NativeStep,
    PlanesByName,
    Step,
    TorchStep,
    buffers_of,
)

Spec = TypeVar("Spec", bound=KernelSpec)


class StepBuilder:
    """The steps so far.

    Attributes:
        values: the graph's values, and those that lowering adds, by name.
        steps: in the order of execution.
        solver: takes the buffers, and what the steps need of their planes.
        tensor_shapes: as in `LoweredGraph`.
    """

    def __init__(self, graph: Graph) -> None:
        self.values = dict(graph.values)
        self.steps: list[Step] = []
        self.solver = LayoutSolver()
        self.tensor_shapes: dict[str, tuple[int, ...]] = {}

    def finish(self) -> LoweredGraph:
        """Return all steps, with the planes of all buffers."""
        return LoweredGraph(self.steps, self.solver.solve(), self.tensor_shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value."""
        return self.values[name].shape

    def new_value(self, name: str, shape: tuple[int, ...]) -> str:
        """Add a float32 value that is not in the graph; return its name, which begins with `name`."""
        while name in self.values:
            name += "'"
        self.values[name] = Value(name, shape)
        return name

    def add_kernel(
        self, label: str, arguments: Mapping[str, Argument], make_spec: Callable[[PlanesByName], Spec],
        make_arrays: Callable[[Spec, PlanesByName], Constants] = lambda *_: {}, macs: LayerMacs = NO_WEIGHTS,
    ) -> None:  # fmt: skip
        """Add a step that only one kernel can compute.

        Args:
            label: the operator, for tables.
            arguments: as in `NativeStep`.
            make_spec: returns the kernel, given the planes of the step's buffers by argument.
            make_arrays: returns the kernel's constant arrays by argument, given the kernel and these planes.
            macs: of the layer, for a step with weights.
        """

        def candidates(planes: PlanesByName) -> list[Candidate]:
            spec = make_spec(planes)
            return [Candidate(spec, 0.0, lambda: make_arrays(spec, planes))]

        self.add_candidates(label, arguments, candidates, macs)

    def add_candidates(
        self, label: str, arguments: Mapping[str, Argument],
        candidates: Callable[[PlanesByName], list[Candidate]], macs: LayerMacs = NO_WEIGHTS,
    ) -> None:  # fmt: skip
        """Add a step that several kernels can compute.

        Args:
            label: the operator, for tables.
            arguments: as in `NativeStep`.
            candidates: returns the kernels, the best guess first, given the planes of the step's buffers by argument.
            macs: of the layer, for a step with weights.
        """
        arguments = dict(arguments)

        def by_argument(planes: PlanesByName) -> list[Candidate]:
            return candidates({name: planes[buffer] for name, buffer in buffers_of(arguments).items()})

        self.steps.append(NativeStep(label, arguments, by_argument, macs))

    def add_torch(
        self, label: str, inputs: tuple[str, ...], outputs: tuple[str, ...],
        run: Callable[..., tuple[torch.Tensor, ...]], *, reason: str = "", returns_view: bool = False,
    ) -> None:  # fmt: skip
        """Add a step on PyTorch; arguments as in `TorchStep`, but outputs by name."""
        values = tuple(self.values[name] for name in outputs)
        self.steps.append(TorchStep(label, inputs, values, run, reason, returns_view))
