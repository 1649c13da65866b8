"""The nodes of a file as one list: calls of the file's own functions are replaced by their nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.runtime.onnx_frontend.node import Branch, Node
from gpmt.runtime.onnx_frontend.stored_tensors import StoredTensors

_MAX_NODES = 20_000
_MAX_DEPTH = 16

Names = dict[str, str]


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
        return self._flat(protos, {}, {}, self._opsets, "", 0)

    def _flat(
        self,
        protos: Sequence[Any],
        names: Names,
        arguments: Mapping[str, Any],
        opsets: Mapping[str, int],
        prefix: str,
        depth: int,
    ) -> list[Node]:
        """Return nodes under their unique names.

        Args:
            protos: in their order.
            names: the unique names of values, where they differ; gets those that the nodes make.
            arguments: the attributes that the function around them was called with.
            opsets: the version of the operators of each domain.
            prefix: of the names that they make.
            depth: how many functions and branches are around them.
        """
        if depth > _MAX_DEPTH:
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
            label = f"{prefix}{self._label(proto)}"
            inputs = tuple(names.get(name, name) for name in proto.input)
            outputs = tuple(f"{prefix}{name}" if name else "" for name in proto.output)
            here = f"{label}:{self._count}/"
            attributes = self._attributes(proto, names, arguments, opsets, here, depth)
            function = self._functions.get((proto.domain, proto.op_type))
            if function is None:
                found.append(
                    Node(
                        label,
                        proto.op_type,
                        domain,
                        opsets.get(domain, 0),
                        _version(proto.op_type, opsets.get("", 0)) if not domain else 0,
                        inputs,
                        outputs,
                        attributes,
                    )
                )
            else:
                found += self._called(function, inputs, outputs, attributes, opsets, here, depth)
            names.update(zip(proto.output, outputs, strict=True))
        return found

    def _called(
        self,
        function: Any,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, Any],
        opsets: Mapping[str, int],
        prefix: str,
        depth: int,
    ) -> list[Node]:
        """Return the nodes of a function, and nodes that name its results as the caller does."""
        own = {
            **opsets,
            **{("" if i.domain == "ai.onnx" else i.domain): i.version for i in function.opset_import},
        }
        given = [*inputs, *[""] * (len(function.input) - len(inputs))]
        names: Names = dict(zip(function.input, given, strict=False))
        arguments = {a.name: self._value(a, {}, {}, own, prefix, depth) for a in function.attribute_proto}
        found = self._flat(function.node, names, {**arguments, **attributes}, own, prefix, depth + 1)
        results = list(zip(function.output, outputs, strict=False))
        for inner, outer in results:
            if outer:
                version = _version("Identity", own.get("", 0))
                source = names.get(inner, inner)
                found.append(Node(outer, "Identity", "", own.get("", 0), version, (source,), (outer,), {}))
        return found

    def _attributes(
        self,
        proto: Any,
        names: Names,
        arguments: Mapping[str, Any],
        opsets: Mapping[str, int],
        prefix: str,
        depth: int,
    ) -> dict[str, Any]:
        found = {}
        for attribute in proto.attribute:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name in arguments:
                    found[attribute.name] = arguments[attribute.ref_attr_name]
            else:
                found[attribute.name] = self._value(
                    attribute, names, arguments, opsets, prefix, depth, branches=proto.op_type == "If"
                )
        return found

    def _value(
        self,
        attribute: Any,
        names: Names,
        arguments: Mapping[str, Any],
        opsets: Mapping[str, int],
        prefix: str,
        depth: int,
        *,
        branches: bool = False,
    ) -> Any:
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
                return self._branch(
                    attribute.g, names, arguments, opsets, f"{prefix}{attribute.name}/", depth
                )
            case 6:
                return [float(number) for number in attribute.floats]
            case 7:
                return [int(number) for number in attribute.ints]
            case 11:
                return self._tensors.read("a constant", attribute.sparse_tensor)
        return None

    def _branch(
        self,
        graph: Any,
        names: Names,
        arguments: Mapping[str, Any],
        opsets: Mapping[str, int],
        prefix: str,
        depth: int,
    ) -> Branch:
        """Return one side of an If, whose initialisers become constants."""
        inner = dict(names)
        version = _version("Constant", opsets.get("", 0))
        constants = []
        for proto in graph.initializer:
            name = f"{prefix}{proto.name}"
            value = {"value": self._tensors.read(proto.name or "a constant", proto)}
            constants.append(Node(name, "Constant", "", opsets.get("", 0), version, (), (name,), value))
            inner[proto.name] = name
        found = self._flat(graph.node, inner, arguments, opsets, prefix, depth + 1)
        outputs = tuple(inner.get(value.name, value.name) for value in graph.output)
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
