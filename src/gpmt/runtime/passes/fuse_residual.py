"""Sums become part of a convolution before them."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.activation import IDENTITY
from gpmt.runtime.ir.operators import Add, Conv
from gpmt.runtime.passes.rewriting import Rewriter, rule


@rule(Add)
def fuse_residual(graph: Rewriter, add: Add) -> bool:
    """Let the convolution that runs last add the other side, or the other one if only that can."""
    sides = sorted((add.left, add.right), key=graph.place)
    for residual, name in (sides, sides[::-1]):
        conv = graph.sole_producer(name)
        if isinstance(conv, Conv) and conv.residual is None and conv.activation == IDENTITY:
            # It moves to the place of the sum, where both sides are there.
            graph.remove(name)
            graph.append(replace(conv, output=add.output, residual=residual, activation=add.activation))
            return True
    return False
