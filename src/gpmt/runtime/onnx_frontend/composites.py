"""Functions that exporters write as several nodes where an opset has none: layer norm before 17, GELU before 20."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from gpmt.runtime.onnx_frontend.node import Node

GELU = "Erf in GELU"
LAYER_NORM = "ReduceMean in layer norm"
"""The operators that take their place: with x, or with x, weight and bias, and the attributes axis and epsilon."""

_MAX_ERROR = 1e-6


def merge_composites(
    nodes: Sequence[Node], constants: Mapping[str, Tensor], outputs: Sequence[str]
) -> list[Node]:
    """Return nodes with one for each GELU and layer norm of which nothing else reads a part.

    Args:
        nodes: in the order of execution.
        constants: what is known of their inputs.
        outputs: the values that the network returns.
    """
    matcher = _Matcher(nodes, constants, outputs)
    merged: dict[str, Node] = {}
    gone: set[str] = set()
    for node in nodes:
        found = matcher.gelu(node) or matcher.layer_norm(node)
        if found is not None and not gone.intersection(parts := found[1]):
            merged[node.outputs[0]] = found[0]
            gone |= {*parts} - {node.outputs[0]}
    return [merged.get(node.outputs[0], node) for node in nodes if node.outputs[0] not in gone]


_Match = tuple[Node, list[str]]
"""The node that takes the place, and the values that its parts make."""


class _Matcher:
    def __init__(
        self, nodes: Sequence[Node], constants: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> None:
        self._makers = {node.outputs[0]: node for node in nodes if len(node.outputs) == 1}
        self._constants = constants
        self._reads = Counter(
            name for node in nodes for name in [*node.inputs, *(node.reads() - {*node.inputs})]
        )
        self._reads.update(outputs)

    def gelu(self, node: Node) -> _Match | None:
        """Match x · (1 + erf(x / √2)) / 2, whatever the order of the factors."""
        if not _is(node, "Mul"):
            return None
        factors, parts = self._factors(node)
        halves = [name for name in factors if self._number(name) is not None]
        sums = [name for name in factors if self._is_sum_with_erf(name)]
        if len(factors) != 3 or len(halves) != 1 or len(sums) != 1 or not _near(self._number(halves[0]), 0.5):
            return None
        (source,) = (name for name in factors if name not in (halves[0], sums[0]))
        added = self._makers[sums[0]]
        ones = [name for name in added.inputs if _near(self._number(name), 1)]
        errors = [name for name in added.inputs if self._made_by(name, "Erf")]
        if len(ones) != 1 or len(errors) != 1:
            return None
        inner = self._makers[errors[0]].inputs[0]
        scaled = self._makers.get(inner)
        if scaled is None or source not in scaled.inputs or len(scaled.inputs) != 2:
            return None
        numbers = [number for name in scaled.inputs if (number := self._number(name)) is not None]
        scale = 1 / math.sqrt(2) if _is(scaled, "Mul") else math.sqrt(2)
        divided = _is(scaled, "Div") and scaled.inputs[0] == source
        if len(numbers) != 1 or not _near(numbers[0], scale) or not (_is(scaled, "Mul") or divided):
            return None
        parts += [sums[0], errors[0], inner]
        if not self._only_inside([*parts[1:]]):
            return None
        return Node(node.name, GELU, "", node.opset, 0, (source,), node.outputs, {}), parts

    def layer_norm(self, node: Node) -> _Match | None:
        """Match (x − mean) / √(variance + ε) · weight + bias over the last axes that the weight has."""
        found = self._constant_and(node, "Add")
        scaled = found and self._constant_and(self._makers.get(found[1]), "Mul")
        if not found or not scaled:
            return None
        divided = self._makers.get(scaled[1])
        root = self._maker(divided, "Div", 1, "Sqrt")
        shifted = self._constant_and(self._makers.get(root.inputs[0]) if root else None, "Add")
        variance = self._makers.get(shifted[1]) if shifted else None
        square = self._maker(variance, "ReduceMean", 0, "Pow") or self._maker(
            variance, "ReduceMean", 0, "Mul"
        )
        if not (divided and root and shifted and variance and square):
            return None
        difference = divided.inputs[0]
        second = square.inputs[1]
        squared = second == difference if square.operator == "Mul" else _near(self._number(second), 2)
        centred = self._makers.get(difference)
        mean = self._maker(centred, "Sub", 1, "ReduceMean")
        epsilon = self._number(shifted[0])
        if square.inputs[0] != difference or not squared or not centred or not mean or epsilon is None:
            return None
        source = centred.inputs[0]
        axes = [self._axes(part) for part in (mean, variance)]
        weight, bias = self._constants[scaled[0]], self._constants[found[0]]
        if mean.inputs[0] != source or axes != [[-1], [-1]] or weight.ndim != 1 or weight.shape != bias.shape:
            return None
        inside = [*(part.outputs[0] for part in (divided, root, variance, square, centred, mean))]
        inside += [found[1], root.inputs[0]]
        if not self._only_inside(
            [*dict.fromkeys(inside)], {difference: 3 if square.operator == "Mul" else 2}
        ):
            return None
        attributes = {"axis": -1, "epsilon": epsilon}
        inputs = (source, scaled[0], found[0])
        parts = [node.outputs[0], *inside]
        return Node(node.name, LAYER_NORM, "", node.opset, 0, inputs, node.outputs, attributes), parts

    def _factors(self, node: Node) -> tuple[list[str], list[str]]:
        """Return the factors of a product of products, and the values of these."""
        factors: list[str] = []
        parts = [node.outputs[0]]
        for name in node.inputs:
            maker = self._makers.get(name)
            if maker is not None and _is(maker, "Mul") and self._reads[name] == 1 and len(parts) == 1:
                factors += maker.inputs
                parts.append(name)
            else:
                factors.append(name)
        return factors, parts

    def _only_inside(self, names: Sequence[str], several: Mapping[str, int] | None = None) -> bool:
        """Whether values are read as often as the function itself does: once, where nothing else is said."""
        return all(self._reads[name] == (several or {}).get(name, 1) for name in names)

    def _number(self, name: str) -> float | None:
        data = self._constants.get(name)
        return float(data) if data is not None and data.numel() == 1 else None

    def _made_by(self, name: str, operator: str) -> bool:
        maker = self._makers.get(name)
        return maker is not None and _is(maker, operator)

    def _is_sum_with_erf(self, name: str) -> bool:
        maker = self._makers.get(name)
        return (
            maker is not None
            and _is(maker, "Add")
            and any(self._made_by(part, "Erf") for part in maker.inputs)
        )

    def _maker(self, node: Node | None, operator: str, place: int, before: str) -> Node | None:
        """Return the node that makes an input of a node, where the two are of these operators."""
        if node is None or not _is(node, operator) or len(node.inputs) <= place:
            return None
        maker = self._makers.get(node.inputs[place])
        return maker if maker is not None and _is(maker, before) and len(maker.inputs) > 0 else None

    def _constant_and(self, node: Node | None, operator: str) -> tuple[str, str] | None:
        """Return the two inputs of a node of this operator, the constant one first."""
        if node is None or not _is(node, operator) or len(node.inputs) != 2:
            return None
        one, other = node.inputs
        if other in self._constants:
            one, other = other, one
        return (one, other) if one in self._constants and other not in self._constants else None

    def _axes(self, node: Node) -> list[int] | None:
        """Return the axes of a reduction that keeps them, from the end."""
        given = node.attributes.get("axes")
        if len(node.inputs) > 1 and (data := self._constants.get(node.inputs[1])) is not None:
            given = data.reshape(-1).tolist()
        return given if node.attributes.get("keepdims", 1) == 1 else None


def _is(node: Node, operator: str) -> bool:
    return node.operator == operator and not node.domain


def _near(number: float | None, expected: float) -> bool:
    return number is not None and abs(number - expected) < _MAX_ERROR * expected
