"""Reshapes become part of the operator before them; several become one, and those that do nothing are removed."""

from __future__ import annotations

from dataclasses import replace

from gpmt.runtime.ir.operators import GlobalMean, Reshape
from gpmt.runtime.passes.rewriting import Rewriter, rule


@rule(Reshape)
def simplify_reshapes(graph: Rewriter, reshape: Reshape) -> bool:
    """Let means write vectors, and let a reshape read what the reshapes before it read."""
    shape = graph.values[reshape.output].shape
    mean = graph.sole_producer(reshape.input)
    if isinstance(mean, GlobalMean) and shape == graph.values[mean.input].shape[:2]:
        graph.replace(mean, replace(mean, output=reshape.output))
        return True
    before = graph.producer(reshape.input)
    if isinstance(before, Reshape):
        _read_its_input(graph, before)
        reshape = replace(reshape, input=before.input)
    if graph.values[reshape.input].shape == shape:
        graph.alias(reshape.output, reshape.input)
    else:
        graph.append(reshape)
    return True


def _read_its_input(graph: Rewriter, before: Reshape) -> None:
    """Count that a reader of a reshape reads its input instead; remove the reshape after its last reader."""
    graph.read_counts[before.input] += 1
    graph.read_counts[before.output] -= 1
    if not graph.read_counts[before.output]:
        graph.remove(before.output)
        graph.read_counts[before.input] -= 1
