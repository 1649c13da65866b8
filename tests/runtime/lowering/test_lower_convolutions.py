"""Convolutions and linear layers that need more than one kernel, or another one than usual."""

from dataclasses import replace

from tests.runtime.lowering.lowered import labels
from tests.runtime.networks import Lambda, noise
from torch import nn

from gpmt.runtime.codegen import processor
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Linear
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.passes.pipeline import optimize

IMAGE = noise(2, 4, 9, 8)


def test_vectors_of_pixels_far_apart_are_left_to_the_sparse_kernel():
    steps = labels(nn.Conv2d(4, 4, 1, stride=100, groups=4), noise(1, 4, 3, 101))
    assert steps == ["import", "conv 1×1 /100", "export"]


def test_names_of_values_are_the_networks_own():
    """A file may call a value as a step in between would be called."""
    network = Lambda(
        lambda s, x: (s.linear(x.mean((2, 3), keepdim=True)), s.conv(x)),
        linear=nn.Linear(1, 3),
        conv=nn.Conv2d(4, 2, 3, stride=2),
    ).eval()
    graph = optimize(capture(network, IMAGE).graph)
    (linear,) = (operator for operator in graph.operators if isinstance(operator, Linear))
    (old,), new = graph.inputs, f"{linear.output}:before"
    values = {name: value for name, value in graph.values.items() if name != old}
    values[new] = replace(graph.values[old], name=new)
    operators = [replace(op, input=new) if op.input == old else op for op in graph.operators]
    lowered = lower(replace(graph, values=values, operators=operators, inputs=[new]), processor.host(), 1)
    same = lower(graph, processor.host(), 1)
    assert [step.label for step in lowered.steps] == [step.label for step in same.steps]
    assert [*lowered.planes.values()] == [*same.planes.values()]
