"""From a graph to steps, operator by operator; the rule of each type of operator is in a `lower_*` module."""

from __future__ import annotations

from gpmt.runtime.codegen.processor import Processor
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.lowering import (  # noqa: F401 - each registers its rules
    lower_attention,
    lower_channels,
    lower_convolutions,
    lower_normalization,
    lower_pointwise,
    lower_pooling,
    lower_tensors,
    lower_tokens,
)
from gpmt.runtime.lowering.rules import LoweringContext, rule_of
from gpmt.runtime.lowering.step_builder import StepBuilder
from gpmt.runtime.lowering.steps import LoweredGraph
from gpmt.runtime.lowering.value_layouts import ValueLayouts


def lower(graph: Graph, processor: Processor, threads: int) -> LoweredGraph:
    """Return the steps of a graph; the graph is left as it is.

    Args:
        graph: fused. Every operator has a rule in `LOWERINGS`.
        processor: that kernels are chosen for.
        threads: that will share each step.
    """
    steps = StepBuilder(graph)
    layouts = ValueLayouts(steps, (*graph.inputs, *graph.constants), processor.lanes)
    context = LoweringContext(processor, threads, steps, layouts)
    for operator in graph.operators:
        rule_of(type(operator))(operator, context)
    for name in graph.outputs:
        layouts.as_tensor(name)
    return steps.finish()
