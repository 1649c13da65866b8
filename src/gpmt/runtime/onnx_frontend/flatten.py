"""The nodes of a file as one list: calls of the file's own functions are replaced by their nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.runtime.onnx_frontend.node import Branch, Node
from gpmt.runtime.onnx_frontend.stored_tensors import StoredTensors

_MAX_NODES = 20_000
_MAX_DEPTH = 16


@dataclass(frozen=True)
class _Place:
    """Where nodes stand: in the main graph, a function or a branch.

    Attributes:
        names: the unique names of values, where they differ; gets those that the nodes make.
        arguments: the attributes that the function around them was called with.
        opsets: the version of the operators of each domain.
        prefix: of the names that they make.
        depth: how many functions and branches are around them.
    """

    names: dict[str, str]
    arguments: Mapping[str, Any]
    opsets: Mapping[str, int]
    prefix: str = ""
    depth: int = 0

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return self.opsets.get("", 0)

    def node(self, label: str, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> Node:
        """Return a node of one of ONNX's own operators."""
        version = _version(operator, self.opset)
        return Node(label, operator, "", self.opset, version, tuple(inputs), (output,), attributes)


class Flattener:
    """Makes `Node`s of NodeProtos; names inside functions and branches get a prefix that makes them unique.

    Args:
        path: the file, for messages.
        proto: the ModelProto.
        opsets: the version of the operators of each domain.
        tensors: reads the tensors of attributes.
    """

    def __init__(self, path: Path, proto: Any, opsets: Mapping[str, int], tensors: StoredTensors) -> None:
        self._path = path
        self._functions = {(f.domain, f.name): f for f in proto.functions}
        self._opsets = opsets
        self._tensors = tensors
        self._count = 0

    def nodes(self, protos: Sequence[Any]) -> list[Node]:
        """Return the nodes of the main graph."""
        return self._flat(protos, _Place({}, {}, self._opsets))

    def _flat(self, protos: Sequence[Any], place: _Place) -> list[Node]:
        """Return nodes, in their order, under their unique names."""
        if place.depth > _MAX_DEPTH:
            raise CheckpointError(
                f"{self._path} has functions or branches in one another, more than {_MAX_DEPTH} deep; export it again"
            )
        found: list[Node] = []
        for proto in protos:
            self._count += 1
            if self._count > _MAX_NODES:
                raise RuntimeProgramError(
                    f"{self._path} has more than {_MAX_NODES:,} nodes; export a smaller network"
                )
            texts = proto.op_type, proto.domain, *proto.input, *proto.output
            if not all(isinstance(text, str) for text in texts):
                raise CheckpointError(
                    f"{self._path} has a node with a name that is not UTF-8; export it again"
                )
            domain = "" if proto.domain == "ai.onnx" else proto.domain
            label = f"{place.prefix}{self._label(proto)}"
            inputs = tuple(place.names.get(name, name) for name in proto.input)
            outputs = tuple(f"{place.prefix}{name}" if name else "" for name in proto.output)
            here = replace(place, prefix=f"{label}:{self._count}/")
            attributes = self._attributes(proto, here)
            function = self._functions.get((proto.domain, proto.op_type))
            if function is None:
                opset = place.opsets.get(domain, 0)
                version = 0 if domain else _version(proto.op_type, place.opset)
                found.append(Node(label, proto.op_type, domain, opset, version, inputs, outputs, attributes))
            else:
                found += self._called(function, inputs, outputs, attributes, here)
            place.names.update(zip(proto.output, outputs, strict=True))
        return found

    def _called(
        self,
        function: Any,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
        place: _Place,
    ) -> list[Node]:
        """Return the nodes of a function, and nodes that name its results as the caller does."""
        imported = {("" if i.domain == "ai.onnx" else i.domain): i.version for i in function.opset_import}
        opsets = {**place.opsets, **imported}
        given = [*inputs, *[""] * (len(function.input) - len(inputs))]
        outside = replace(place, names={}, arguments={}, opsets=opsets)
        usual = {a.name: self._value(a, outside) for a in function.attribute_proto}
        names = dict(zip(function.input, given, strict=False))
        inside = _Place(names, {**usual, **attributes}, opsets, place.prefix, place.depth + 1)
        found = self._flat(function.node, inside)
        for inner, outer in zip(function.output, outputs, strict=False):
            if outer:
                found.append(inside.node(outer, "Identity", [names.get(inner, inner)], outer))
        return found

    def _attributes(self, proto: Any, place: _Place) -> dict[str, Any]:
        found = {}
        for attribute in proto.attribute:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name in place.arguments:
                    found[attribute.name] = place.arguments[attribute.ref_attr_name]
            else:
                found[attribute.name] = self._value(attribute, place, branches=proto.op_type == "If")
        return found

    def _value(self, attribute: Any, place: _Place, *, branches: bool = False) -> Any:
        """Return an attribute as a plain value; None for what no operator here reads."""
        match attribute.type:
            case 1:
                return float(attribute.f)
            case 2:
                return int(attribute.i)
            case 3:
                return attribute.s.decode(errors="replace")
            case 4:
                return self._tensors.read(attribute.t.name or "a constant", attribute.t)
            case 5 if branches:
                return self._branch(attribute.g, replace(place, prefix=f"{place.prefix}{attribute.name}/"))
            case 6:
                return [float(number) for number in attribute.floats]
            case 7:
                return [int(number) for number in attribute.ints]
            case 11:
                return self._tensors.read("a constant", attribute.sparse_tensor)
        return None

    def _branch(self, graph: Any, place: _Place) -> Branch:
        """Return one side of an If, whose initialisers become constants."""
        inner = replace(place, names=dict(place.names), depth=place.depth + 1)
        constants = []
        for proto in graph.initializer:
            name = f"{place.prefix}{proto.name}"
            value = self._tensors.read(proto.name or "a constant", proto)
            constants.append(place.node(name, "Constant", (), name, value=value))
            inner.names[proto.name] = name
        found = self._flat(graph.node, inner)
        outputs = tuple(inner.names.get(value.name, value.name) for value in graph.output)
        return Branch((*constants, *found), outputs)

    def _label(self, proto: Any) -> str:
        """Return what messages call a node."""
        name = (
            proto.name if isinstance(proto.name, str) and proto.name else next(filter(None, proto.output), "")
        )
        return name or "without a name"


@cache
def _version(operator: str, opset: int) -> int:
    """Return the opset that brought an operator as this opset has it; 0 where there is none."""
    import onnx

    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except Exception:  # onnx has a class for it, which is not public in all versions
        return 0
    return int(schema.since_version)
