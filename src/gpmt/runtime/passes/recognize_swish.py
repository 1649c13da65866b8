"""Products that are an activation: SiLU and hard swish."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpmt.runtime.ir.activation import Activation
from gpmt.runtime.ir.operators import Affine, Multiply
from gpmt.runtime.passes.rewriting import Rewriter, rule


@rule(Multiply)
def recognize_swish(graph: Rewriter, product: Multiply) -> bool:
    """x · sigmoid(x) is SiLU, and x · clamp(x / 6 + 1/2, 0, 1) is hard swish, also where it is 6 times as large."""
    for source, gate in ((product.left, product.right), (product.right, product.left)):
        affine = graph.sole_producer(gate)
        if not isinstance(affine, Affine) or affine.input != source:
            continue
        found = _swish(affine)
        if found is not None:
            graph.remove(gate)
            graph.read_counts[source] -= 1
            _add_swish(graph, source, product.output, *found, like=affine)
            return True
    return False


def _swish(gate: Affine) -> tuple[Activation, float] | None:
    """Return the activation that the product with a gate is, and a factor for its result."""
    scale, shift = gate.scale[0], gate.shift[0]
    if not (np.all(gate.scale == scale) and np.all(gate.shift == shift)):
        return None
    if (gate.activation.kind, scale, shift) == ("sigmoid", 1, 0):
        return Activation("silu"), 1.0
    if gate.activation.kind != "clamp":
        return None
    close = np.allclose([shift, gate.activation.high], [3 * scale, 6 * scale], rtol=1e-6, atol=0)
    if gate.activation.low != 0 or scale <= 0 or not close:
        return None
    return Activation("hardswish"), gate.activation.high


def _add_swish(
    graph: Rewriter, source: str, output: str, activation: Activation, factor: float, like: Affine
) -> None:
    ones, zeros = np.ones_like(like.scale), np.zeros_like(like.scale)
    swish = Affine(source, output, ones, zeros, activation, like.axis)
    if factor == 1:
        graph.add(swish)
        return
    middle = f"{output}_swish"
    graph.values[middle] = replace(graph.values[output], name=middle)
    graph.read_counts[middle] = 1
    graph.add(replace(swish, output=middle))
    graph.add(Affine(middle, output, ones * np.float32(factor), zeros, axis=like.axis))
