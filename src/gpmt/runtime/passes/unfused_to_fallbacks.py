"""Operators that only exist to become part of others become fallbacks where they did not."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator
from gpmt.runtime.ir.operators import HeadAttention, MatMul, Permute, Slice, Softmax
from gpmt.runtime.ir.operators.channels import NATIVE_SLICES
from gpmt.runtime.passes.torch_equivalents import as_fallback


def unfused_to_fallbacks(graph: Graph) -> Graph:
    """Return the graph with calls of PyTorch in the place of operators that have no kernel."""
    result = replace(graph, values=dict(graph.values), operators=[], constants=dict(graph.constants))
    for operator in graph.operators:
        reason = _reason(graph, operator)
        result.operators.append(as_fallback(result, operator, reason) if reason else operator)
    return result


def _reason(graph: Graph, operator: Operator) -> str:
    """Say why an operator cannot be computed natively; empty where it can."""
    match operator:
        case Permute():
            return "it moves numbers"
        case Slice(axis=axis, input=name):
            native = (len(graph.values[name].shape), axis) in NATIVE_SLICES
            return "" if native else "there is no kernel for its dimension"
        case MatMul() | Softmax():
            return "it is not part of an attention"
        case HeadAttention():
            return "its heads are not parts of tokens"
    return ""
