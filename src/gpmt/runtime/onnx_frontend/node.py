"""Nodes of an ONNX graph as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpmt.formats.short_repr import short_repr


@dataclass(frozen=True, eq=False)
class Node:
    """One node, with names that are unique in the whole file.

    Attributes:
        name: for messages; that of its first output where the file gives none.
        operator, domain: its kind; the domain of ONNX's own operators is "".
        opset: the version of the operators of its domain.
        version: that of the operator's definition, the opset that brought it; 0 where it is not ONNX's.
        inputs: names of values, "" where an optional one is left out.
        outputs: names of values, "" where one is not wanted.
        attributes: numbers, texts, lists of these, tensors, and `Branch`.
    """

    name: str
    operator: str
    domain: str
    opset: int
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The operator for messages, with its domain where that is not ONNX's own."""
        name = f"{self.domain}.{self.operator}" if self.domain else self.operator
        return short_repr(name, 60)[1:-1]

    def reads(self) -> set[str]:
        """Return the values that it reads, in its branches too."""
        found = {name for name in self.inputs if name}
        for value in self.attributes.values():
            if isinstance(value, Branch):
                found |= value.reads()
        return found


@dataclass(frozen=True, eq=False)
class Branch:
    """The nodes of one side of an If, and the values that it returns."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def reads(self) -> set[str]:
        """Return the values that come from outside."""
        made = {name for node in self.nodes for name in node.outputs}
        found = set(self.outputs).union(*(node.reads() for node in self.nodes))
        return found - made
