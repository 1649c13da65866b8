"""Activations become part of the operator before them."""

from __future__ import annotations

from dataclasses import replace

import torch

from gpmt.runtime.ir.activation import ATEN_ACTIVATIONS, IDENTITY, Activation
from gpmt.runtime.ir.operators import Add, Affine, Conv, Fallback, Linear, Multiply
from gpmt.runtime.ir.torch_calls import bind, short_name
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


@rule(Fallback)
def fuse_activation_call(graph: Rewriter, operator: Fallback) -> bool:
    """Let a linear layer apply an activation of vectors, which is a call of PyTorch."""
    if len(operator.calls.calls) != 1 or len(operator.outputs) != 1 or len(operator.inputs) != 1:
        return False
    (call,), (source,), (output,) = operator.calls.calls, operator.inputs, operator.outputs
    before = graph.sole_producer(source)
    find = ATEN_ACTIVATIONS.get(short_name(call.target))
    if not isinstance(before, Linear) or before.activation != IDENTITY or find is None:
        return False
    found = find(bind(call.target, call.args, call.kwargs))
    if found is None or graph.values[output].dtype != torch.float32:
        return False
    graph.replace(before, replace(before, output=output, activation=found))
    return True


def _composed(first: Activation, then: Activation) -> Activation | None:
    """Return the activation that does both, if there is one."""
    if first == IDENTITY:
        return then
    if (first.kind, then.kind) != ("clamp", "clamp"):
        return None
    return Activation("clamp", *(min(max(bound, then.low), then.high) for bound in (first.low, first.high)))
