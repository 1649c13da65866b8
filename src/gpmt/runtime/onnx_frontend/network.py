"""An ONNX file as a network of PyTorch, which runs its nodes one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.errors import RuntimeProgramError
from gpmt.formats.short_repr import short_repr
from gpmt.runtime.onnx_frontend import operators  # noqa: F401 - fills the table
from gpmt.runtime.onnx_frontend.call import NotSupported
from gpmt.runtime.onnx_frontend.composites import merge_composites
from gpmt.runtime.onnx_frontend.evaluation import compute_node, run_node
from gpmt.runtime.onnx_frontend.linear_layers import merge_linear_layers
from gpmt.runtime.onnx_frontend.model_file import Input, ModelFile, sizes_text
from gpmt.runtime.onnx_frontend.node import Node
from gpmt.runtime.onnx_frontend.parameters import add_parameter
from gpmt.runtime.onnx_frontend.problems import Problems
from gpmt.runtime.onnx_frontend.registry import entry
from gpmt.runtime.onnx_frontend.survey import Survey, reads, survey

_MAX_COMPUTED = 2**28
"""Elements of all constants that nodes compute, beside four times those that the file holds."""

_REMEMBERED = 4
"""Of how many shapes of inputs a survey is kept."""


class OnnxNetwork(nn.Module):
    """The network of an ONNX file; called like the file's graph, with tensors in its order or by its names.

    It returns a tensor where the file has one output, and otherwise a dict by the names of the outputs.

    Args:
        file: what the file holds.

    Raises:
        RuntimeProgramError: an operator that is not supported; all of them are named.
    """

    def __init__(self, file: ModelFile) -> None:
        super().__init__()
        self._path = file.path
        self._inputs = file.inputs
        self._outputs = file.outputs
        nodes = _needed(file.nodes, file.outputs)
        problems = Problems()
        for node in nodes:
            if entry(node) is None and node.operator != "If":
                problems.add(node)
        problems.check(file.path)
        self._room = _MAX_COMPUTED + 4 * sum(tensor.numel() for tensor in file.constants.values())
        constants = dict(file.constants)
        origins = {name: name for name in constants}
        nodes = self._fold(nodes, constants, origins)
        nodes = merge_composites(_needed(nodes, self._outputs), constants, self._outputs)
        self._nodes = _needed(merge_linear_layers(nodes, constants, self._outputs), self._outputs)
        read = reads(self._nodes, self._outputs)
        self._constants: dict[str, Tensor] = {}
        for name, tensor in constants.items():
            if name in read and tensor.is_floating_point():
                self._constants[name] = add_parameter(self, origins.get(name, name), tensor)
            elif name in read:
                self._constants[name] = tensor
        self._surveys: dict[tuple[object, ...], Survey] = {}

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def inputs(self) -> Mapping[str, Input]:
        """What a call gives, by name."""
        return self._inputs

    def forward(self, /, *inputs: Tensor, **named: Tensor) -> Any:
        """Return what the file's graph returns."""
        given = {**dict(zip(self._inputs, inputs, strict=False)), **named}
        if given.keys() != self._inputs.keys() or len(given) != len(inputs) + len(named):
            raise RuntimeProgramError(
                f"{self._path} has the inputs {', '.join(self._inputs) or 'none'}, but was called with {len(inputs)} "
                f"without a name and {', '.join(named) or 'none'} by name"
            )
        for name, tensor in given.items():
            self._check(name, tensor)
        key = tuple(tuple(given[name].shape) for name in self._inputs)
        found = self._surveys.get(key)
        if found is None:
            found = survey(self._path, self._nodes, self._constants, given, self._outputs, self._room)
            if len(self._surveys) >= _REMEMBERED:
                self._surveys.pop(next(iter(self._surveys)))
            self._surveys[key] = found
        return self._result(given, found)

    def _result(self, given: Mapping[str, Tensor], found: Survey) -> Any:
        values = {**given, **self._constants, **found.known}
        known = self._constants.keys() | found.known.keys()
        for node, forgotten in zip(found.steps, found.forgotten, strict=True):
            try:
                values.update(run_node(node, values, known, self._wanted))
            except NotSupported as problem:
                problems = Problems()
                problems.add(node, str(problem))
                problems.check(self._path)
            for name in forgotten:
                values.pop(name, None)
        results = {name: values[name] for name in self._outputs}
        return results[self._outputs[0]] if len(results) == 1 else results

    def _fold(
        self, nodes: Sequence[Node], constants: dict[str, Tensor], origins: dict[str, str]
    ) -> list[Node]:
        """Compute nodes that read constants only, and return the others.

        Args:
            nodes: in their order.
            constants: by name; gets what is computed.
            origins: the initialiser that a constant comes from; gets those of the new ones.
        """
        kept = []
        self._wanted = reads(nodes, self._outputs)
        for node in nodes:
            read = [name for name in node.inputs if name]
            if node.operator == "If" or not constants.keys() >= {*read}:
                kept.append(node)
                continue
            try:
                made = compute_node(node, constants, self._wanted, self._room)
            except (NotSupported, MemoryError):
                kept.append(node)  # which the survey tells
                continue
            self._room -= sum(tensor.numel() for tensor in made.values())
            constants.update(made)
            largest = max(read, key=lambda name: constants[name].numel(), default="")
            origins.update({name: origins[largest] for name in made if largest in origins})
        return kept

    def _check(self, name: str, tensor: Tensor) -> None:
        """Check an input against what the file says; the batch may be another."""
        wanted = self._inputs[name]
        if tensor.dtype != wanted.dtype:
            raise RuntimeProgramError(
                f"{self._path} has the input {short_repr(name)} in {_type_name(wanted.dtype)}, but was given "
                f"{_type_name(tensor.dtype)}"
            )
        if wanted.shape is None:
            return
        sizes = tuple(tensor.shape)
        fits = len(sizes) == len(wanted.shape) and all(
            not isinstance(w, int) or w == size for w, size in zip(wanted.shape[1:], sizes[1:], strict=True)
        )
        if not fits:
            raise RuntimeProgramError(
                f"{self._path} has the input {short_repr(name)} of the shape {sizes_text(wanted.shape)}, but was "
                f"given {sizes_text(sizes)}"
            )


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _needed(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    """Return the nodes that outputs depend on."""
    wanted, found = {*outputs}, []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            found.append(node)
            wanted |= node.reads()
    return found[::-1]
