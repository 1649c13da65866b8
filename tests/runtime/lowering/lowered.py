"""Networks for tests of lowering, and the steps that they become."""

import torch
from tests.runtime.networks import scramble
from torch import nn

import gpmt
from gpmt.runtime.codegen import processor
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import reads, writes
from gpmt.runtime.ir.operators import Embedding
from gpmt.runtime.ir.validation import check_graph
from gpmt.runtime.ir.values import Value
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.passes.pipeline import optimize


def labels(network, *inputs):
    """Return the labels of a network's steps, after checking that its program is right."""
    torch.manual_seed(0)
    scramble(network)
    program = gpmt.compile(network, inputs, threads=1, tune=False)
    with torch.no_grad():
        results, expected = program(*inputs), network(*inputs)
    if isinstance(results, torch.Tensor):
        results, expected = [results], [expected]
    for result, right in zip(results, expected, strict=True):
        torch.testing.assert_close(result, right, rtol=1e-5, atol=1e-5)
    return [step.label for step in lower(optimize(capture(network, inputs).graph), processor.host(), 1).steps]


def pixel(*parts):
    """Return a network that begins with the mean of every channel."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), *parts)


def lowered(operators, shapes):
    """Return the steps of a graph of these operators, whose values have these shapes by name."""
    read, written = ({name for op in operators for name in names(op)} for names in (reads, writes))
    integers = {op.input for op in operators if isinstance(op, Embedding)}
    dtypes = {name: torch.int64 if name in integers else torch.float32 for name in shapes}
    values = {name: Value(name, shape, dtypes[name]) for name, shape in shapes.items()}
    inputs, outputs = ([name for name in shapes if name not in others] for others in (written, read))
    graph = Graph(values, list(operators), inputs, outputs)
    check_graph(graph)
    return lower(graph, processor.host(), 1)


def one_step(graph, label):
    """Return the only step of a lowered graph with a label, and its first candidate."""
    (step,) = (step for step in graph.steps if step.label == label)
    return step, step.candidates(graph.planes)[0]
