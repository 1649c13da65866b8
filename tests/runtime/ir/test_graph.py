"""Graphs with arrays of their own."""

import numpy as np
import torch
from tests.runtime.ir.examples import NEGATE
from tests.runtime.networks import noise

from gpmt.runtime.ir.graph import Graph, copy_arrays
from gpmt.runtime.ir.operators import Linear, fallback
from gpmt.runtime.ir.values import Value


def test_a_copy_shares_no_memory_with_the_network():
    weight, bias, table = noise(3, 8), noise(3), noise(4)
    graph = Graph(
        {"a": Value("a", (2, 8)), "b": Value("b", (2, 3)), "x": Value("x", (4,)), "y": Value("y", (4,))},
        [Linear("a", "b", weight.numpy(), bias.numpy()), fallback([NEGATE], ["x"], ["y"], "")],
        ["a"], ["b", "y"], {"x": table}, dynamic_batch=True,
    )  # fmt: skip
    copy = copy_arrays(graph)
    linear, other = copy.operators
    assert other.calls is graph.operators[1].calls
    assert (copy.values, copy.inputs, copy.outputs, copy.dynamic_batch) == (
        graph.values, graph.inputs, graph.outputs, True,
    )  # fmt: skip
    before = [tensor.clone() for tensor in (weight, bias, table)]
    for tensor in (weight, bias, table):
        tensor.zero_()
    assert np.array_equal(linear.weight, before[0].numpy())
    assert np.array_equal(linear.bias, before[1].numpy())
    assert torch.equal(copy.constants["x"], before[2])
    assert not graph.operators[0].weight.any()
