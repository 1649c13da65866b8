"""A product with a constant matrix, and the sum with a constant vector after it, become one linear layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from gpmt.runtime.onnx_frontend.node import Node

MERGED = "MatMul + Add"
"""The operator of a linear layer: one matrix product and one sum."""


def merge_linear_layers(
    nodes: Sequence[Node], constants: Mapping[str, Tensor], outputs: Sequence[str]
) -> list[Node]:
    """Return nodes with one linear layer for each MatMul that only a sum reads; exporters write both for a layer."""
    reads = Counter(name for node in nodes for name in [*node.reads()]) + Counter(outputs)
    products = {
        node.outputs[0]: node
        for node in nodes
        if (node.operator, node.domain) == ("MatMul", "")
        and len(node.inputs) == 2
        and reads[node.outputs[0]] == 1
        and _is_matrix(constants.get(node.inputs[1]))
        and node.inputs[0] not in constants
    }
    found: list[Node] = []
    merged: set[str] = set()
    for node in nodes:
        match = _product_and_bias(node, products, constants)
        if match is None:
            found.append(node)
            continue
        product, bias = match
        merged.add(product.outputs[0])
        inputs = (*product.inputs, bias)
        found.append(Node(product.name, MERGED, "", node.opset, 0, inputs, node.outputs, {}))
    return [node for node in found if not node.outputs or node.outputs[0] not in merged]


def _product_and_bias(
    node: Node, products: Mapping[str, Node], constants: Mapping[str, Tensor]
) -> tuple[Node, str] | None:
    if (node.operator, node.domain) != ("Add", "") or len(node.inputs) != 2:
        return None
    for source, bias in (node.inputs, node.inputs[::-1]):
        product, data = products.get(source), constants.get(bias)
        if product is not None and data is not None:
            columns = constants[product.inputs[1]].shape[1]
            if tuple(data.shape) in ((columns,), (1, columns)):
                return product, bias
    return None


def _is_matrix(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.ndim == 2
