"""Sums become part of a convolution or a linear layer before them."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.activation import IDENTITY
from gpmt.runtime.ir.operators import Add, Conv, Linear
from gpmt.runtime.passes.rewriting import Rewriter, rule


@rule(Add)
def fuse_residual(graph: Rewriter, add: Add) -> bool:
    """Let the layer that runs last add the other side, or the other one if only that can."""
    sides = sorted((add.left, add.right), key=graph.place)
    for residual, name in (sides, sides[::-1]):
        layer = graph.sole_producer(name)
        if not isinstance(layer, Conv | Linear) or (isinstance(layer, Linear) and not _many(graph, name)):
            continue
        if layer.residual is None and layer.activation == IDENTITY:
            # It moves to the place of the sum, where both sides are there.
            graph.remove(name)
            graph.append(replace(layer, output=add.output, residual=residual, activation=add.activation))
            return True
    return False


def _many(graph: Rewriter, name: str) -> bool:
    """Whether linear layers make tokens: those that make one vector for a sample are faster without a sum."""
    return len(graph.values[name].shape) > 2 and graph.values[name].shape[-1] > 1
