"""Activations become part of the operator before them."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.ir.operators import Add, Affine, Conv, Linear, Multiply
from gpmt.runtime.passes.fold_affine import is_activation
from gpmt.runtime.passes.rewriting import Rewriter, rule


@rule(Affine)
def fuse_activation(graph: Rewriter, affine: Affine) -> bool:
    """Let the operator before an activation apply it."""
    before = graph.sole_producer(affine.input)
    if not isinstance(before, Affine | Conv | Linear | Add | Multiply) or not is_activation(affine):
        return False
    both = _composed(before.activation, affine.activation)
    if both is None:
        return False
    graph.replace(before, replace(before, output=affine.output, activation=both))
    return True


def _composed(first: Activation, then: Activation) -> Activation | None:
    """Return the activation that does both, if there is one."""
    if first == IDENTITY:
        return then
    if (first.kind, then.kind) != ("clamp", "clamp"):
        return None
    return Activation("clamp", *(min(max(bound, then.low), then.high) for bound in (first.low, first.high)))
