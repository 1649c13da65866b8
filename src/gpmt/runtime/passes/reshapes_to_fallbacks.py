"""Reshapes of what a fallback makes, and of what only fallbacks read, become fallbacks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import torch

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads, writes
from gpmt.runtime.ir.operators import Fallback, Reshape, fallback
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.passes.partition_fallbacks import BESIDE_FALLBACKS


def reshapes_to_fallbacks(graph: Graph) -> Graph:
    """Return the graph with such reshapes as calls of PyTorch."""
    before_fallbacks = _read_by_fallbacks_only(graph)
    producers: dict[str, Operator] = {}
    operators = []
    for operator in graph.operators:
        if isinstance(operator, Reshape) and (
            operator.output in before_fallbacks or isinstance(producers.get(operator.input), Fallback)
        ):
            operator = _as_fallback(graph, operator)
        producers |= dict.fromkeys(writes(operator), operator)
        operators.append(operator)
    return replace(graph, operators=operators)


def _read_by_fallbacks_only(graph: Graph) -> set[str]:
    """Return what chains of reshapes make that only fallbacks read."""
    readers = defaultdict(list)
    for operator in graph.operators:
        for name in reads(operator):
            readers[name].append(operator)
    found: set[str] = set()
    for operator in reversed(graph.operators):
        if isinstance(operator, Reshape) and operator.output not in graph.outputs:
            after = readers[operator.output]
            if after and all(
                isinstance(reader, Fallback) or (isinstance(reader, Reshape) and reader.output in found)
                for reader in after
            ):
                found.add(operator.output)
    return found


def _as_fallback(graph: Graph, reshape: Reshape) -> Fallback:
    shape = list(graph.values[reshape.output].shape)
    call = TorchCall(torch.ops.aten.reshape.default, (Ref(reshape.input), shape), {}, (reshape.output,))
    return fallback([call], [reshape.input], [reshape.output], BESIDE_FALLBACKS)
