"""Small operators that are not near any large one become fallbacks.

To copy a value to and from the layout that kernels read takes longer than a sum does.
"""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads, writes
from gpmt.runtime.ir.operators import (
    Attention,
    Concat,
    Conv,
    Embedding,
    Fallback,
    GlobalMean,
    GroupNorm,
    Linear,
    Pool,
)
from gpmt.runtime.passes.partition_fallbacks import BESIDE_FALLBACKS
from gpmt.runtime.passes.torch_equivalents import as_fallback, has_calls

_LARGE = Conv, Pool, GlobalMean, Concat, Linear, Attention, Embedding, GroupNorm


def small_operators_to_fallbacks(graph: Graph) -> Graph:
    """Return the graph with small operators as fallbacks, where only other small ones and fallbacks are near."""
    if not any(isinstance(operator, Fallback) for operator in graph.operators):
        return graph
    small = [operator for operator in graph.operators if _is_small(operator)]
    native = {name for name in (*graph.inputs, *graph.outputs) if len(graph.values[name].shape) == 4}
    for operator in graph.operators:
        if isinstance(operator, _LARGE) and not _is_small(operator):
            native.update(_values_of(operator))
    for order in (small, small[::-1]):
        for operator in order:
            if not native.isdisjoint(_values_of(operator)):
                native.update(_values_of(operator))
    result = replace(graph, values=dict(graph.values), operators=[], constants=dict(graph.constants))
    for operator in graph.operators:
        if _is_small(operator) and native.isdisjoint(_values_of(operator)):
            operator = as_fallback(result, operator, BESIDE_FALLBACKS)
        result.operators.append(operator)
    return result


def _is_small(operator: Operator) -> bool:
    return has_calls(operator) and (not isinstance(operator, Pool) or operator.is_subsampling)


def _values_of(operator: Operator) -> tuple[str, ...]:
    return *reads(operator), *writes(operator)
