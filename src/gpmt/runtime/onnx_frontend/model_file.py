"""An ONNX file as plain values: nodes in order, constants, and what goes in and out. The file is not believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.extras import import_extra
from gpmt.formats.onnx_tensors import load_proto
from gpmt.formats.short_repr import short_repr
from gpmt.runtime.onnx_frontend.constants import TYPES
from gpmt.runtime.onnx_frontend.flatten import Flattener
from gpmt.runtime.onnx_frontend.node import Node
from gpmt.runtime.onnx_frontend.stored_tensors import StoredTensors
from gpmt.warning import warn

_OLDEST_OPSET = 6
_MAX_SIZE = 2**31
_OTHER_FLOATS = {10: "float16", 11: "float64", 16: "bfloat16"}


@dataclass(frozen=True)
class Input:
    """What a call gives under a name.

    Attributes:
        shape: each dimension as a number, or by its name, or None; None as a whole where the file does not say.
        dtype: of the tensor; float32 for every floating type.
    """

    shape: tuple[int | str | None, ...] | None
    dtype: torch.dtype


@dataclass
class ModelFile:
    """What an ONNX file holds.

    Attributes:
        path: the file.
        opset: the version of ONNX's operators.
        inputs: by name, without initialisers that are inputs too.
        outputs: the names of values.
        nodes: in the order of execution.
        constants: initialisers by name; floating ones are float32.
        converted: how many tensors are float16 or the like in the file, by the type's name.
    """

    path: Path
    opset: int
    inputs: dict[str, Input]
    outputs: tuple[str, ...]
    nodes: list[Node]
    constants: dict[str, Tensor]
    converted: dict[str, int] = field(default_factory=dict)


def read_model_file(path: Path) -> ModelFile:
    """Read an ONNX file; data in other files of its folder are mapped.

    Raises:
        CheckpointError: it cannot be read, or is damaged.
        RuntimeProgramError: onnx is missing, or the file is of a version of ONNX that it does not know.
    """
    onnx = import_extra("onnx", RuntimeProgramError)
    proto = load_proto(path)
    graph = proto.graph
    if not graph.node and not graph.output:
        raise CheckpointError(f"{path} holds no network of ONNX; give the .onnx file that an exporter wrote")
    opsets = _opsets(path, proto.opset_import)
    opset = opsets.get("", 0)
    newest = onnx.defs.onnx_opset_version()
    if "" in opsets and not _OLDEST_OPSET <= opset <= newest:
        raise RuntimeProgramError(
            f"{path} has opset {opset}, but opsets {_OLDEST_OPSET} to {newest} can be read; convert it with "
            "onnx.version_converter, or export it again"
        )
    tensors = StoredTensors(path)
    try:
        constants = _initialisers(path, graph, tensors)
        inputs = {
            _text(path, value.name, "an input"): _input(path, value)
            for value in graph.input
            if value.name not in constants
        }
        if len(inputs) != sum(value.name not in constants for value in graph.input):
            raise CheckpointError(f"{path} has two inputs of one name; export it again")
        flattener = Flattener(path, proto, opsets, tensors)
        nodes = flattener.nodes(graph.node)
        outputs = tuple(_text(path, value.name, "an output") for value in graph.output)
    except RecursionError:
        raise CheckpointError(f"{path} is nested too deeply; export it again") from None
    _check_order(path, nodes, {*inputs, *constants}, outputs)
    return ModelFile(path, opset, inputs, outputs, nodes, constants, _converted(graph, constants, tensors))


def warn_of_conversion(file: ModelFile) -> None:
    """Say which floating types became float32."""
    if file.converted:
        counts = ", ".join(f"{count} of {kind}" for kind, count in sorted(file.converted.items()))
        warn(
            f"{file.path} has weights and inputs in other floating types ({counts}); they are float32 in the program"
        )


def _opsets(path: Path, imports: Sequence[Any]) -> dict[str, int]:
    return {
        ("" if item.domain == "ai.onnx" else _text(path, item.domain, "a domain")): item.version
        for item in imports
    }


def _initialisers(path: Path, graph: Any, tensors: StoredTensors) -> dict[str, Tensor]:
    constants: dict[str, Tensor] = {}
    for proto in [*graph.initializer, *graph.sparse_initializer]:
        own = proto.values.name if hasattr(proto, "indices") else proto.name
        name = _text(path, own, "an initialiser")
        if not name or name in constants:
            raise CheckpointError(
                f"{path} has an initialiser {short_repr(name)} that {'is there twice' if name else 'has no name'}; "
                "export it again"
            )
        constants[name] = tensors.read(name, proto)
    return constants


def _converted(graph: Any, constants: Mapping[str, Tensor], tensors: StoredTensors) -> dict[str, int]:
    """Return how many tensors and inputs are of other floating types than float32."""
    found = dict(tensors.converted)
    for value in graph.input:
        kind = _OTHER_FLOATS.get(value.type.tensor_type.elem_type, "")
        if kind and value.name not in constants:
            found[kind] = found.get(kind, 0) + 1
    return found


def _input(path: Path, value: Any) -> Input:
    name = short_repr(value.name)
    if not value.type.HasField("tensor_type"):
        raise RuntimeProgramError(
            f"{path} has the input {name}, which is not a tensor; export it with tensors only"
        )
    kind = value.type.tensor_type.elem_type
    if kind not in TYPES:
        raise RuntimeProgramError(
            f"{path} has the input {name} in ONNX's type {kind}, which is not read; export it with numbers"
        )
    if not value.type.tensor_type.HasField("shape"):
        return Input(None, TYPES[kind])
    sizes: list[int | str | None] = []
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.HasField("dim_value"):
            if not 0 <= dimension.dim_value < _MAX_SIZE:
                raise CheckpointError(
                    f"{path} gives its input {name} a dimension of {dimension.dim_value}; export it again"
                )
            # Some exporters write 0 where a dimension is free.
            sizes.append(dimension.dim_value or None)
        else:
            sizes.append(dimension.dim_param or None)
    if math.prod(size for size in sizes if isinstance(size, int)) >= _MAX_SIZE:
        raise CheckpointError(f"{path} gives its input {name} the shape {str(sizes)[:80]}; export it again")
    return Input(tuple(sizes), TYPES[kind])


def _check_order(path: Path, nodes: Sequence[Node], given: set[str], outputs: Sequence[str]) -> None:
    """Check that every value is made once, and before it is read."""
    made = set(given)
    for node in nodes:
        if missing := node.reads() - made:
            raise CheckpointError(
                f"{path} has a node {short_repr(node.name)} ({node.kind}) that reads {short_repr(min(missing))}, "
                "which nothing before it makes; export it again"
            )
        for name in filter(None, node.outputs):
            if name in made:
                raise CheckpointError(f"{path} makes {short_repr(name)} twice; export it again")
            made.add(name)
    for name in outputs:
        if name not in made:
            raise CheckpointError(f"{path} returns {short_repr(name)}, which nothing makes; export it again")
    if len({*outputs}) != len(outputs) or not outputs:
        raise CheckpointError(f"{path} has no outputs, or one twice; export it again")


def _text(path: Path, text: object, what: str) -> str:
    """Return a text of the file; what is not UTF-8 comes as bytes."""
    if not isinstance(text, str):
        raise CheckpointError(f"{path} has {what} whose name is not UTF-8; export it again")
    return text


def sizes_text(shape: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return sizes as messages show them.

    >>> sizes_text(["batch", 3, None])
    'batch×3×?'
    """
    return "×".join("?" if size is None else str(size)[:40] for size in shape) or "one number"
