"""Fallbacks side by side become one, as few as the order of the network allows."""

import torch
from tests.runtime.networks import Lambda, check, noise
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.ir.operators import Fallback


def linears(count):
    torch.manual_seed(0)
    return {f"l{i}": nn.Linear(8, 8) for i in range(count)}


def test_neighbours_become_one():
    network = Lambda(lambda s, x: F.softmax(s.l0(F.layer_norm(x.sin(), (8,)).cos()).exp(), -1), **linears(1))
    graph = check(
        network, noise(2, 3, 8), optimized={"sin, layer_norm, cos": 1, "Linear": 1, "exp, softmax": 1}
    )
    assert [len(operator.calls.calls) for operator in graph.operators[::2]] == [3, 2]
    assert len(graph.operators[0].outputs) == 1


def test_native_operators_are_brought_together():
    """Query, key and value each with their own reshape and transpose: one step of three layers, one on PyTorch."""

    def function(s, x):
        q, k, v = (layer(x).view(2, 3, 2, 4).transpose(1, 2) for layer in (s.l0, s.l1, s.l2))
        y = (q - k).exp() * v
        return s.l3(y.transpose(1, 2).reshape(2, 3, 8))

    graph = check(Lambda(function, **linears(4)), noise(2, 3, 8))
    assert [type(operator).__name__ for operator in graph.operators] == ["Linear"] * 3 + [
        "Fallback",
        "Linear",
    ]
    assert graph.operators[3].target == "reshape, permute, sub, exp, mul"


def test_outputs_are_those_that_are_read():
    def function(s, x):
        a, b, c = x.sin().chunk(3, 0)
        return s.l0(a) + b, c.cos() * 2, a

    graph = check(Lambda(function, **linears(1)), noise(3, 2, 8))
    first = graph.operators[0]
    assert isinstance(first, Fallback)
    assert len(first.outputs) == 3
    made = {name for step in first.calls.calls for name in step.outputs}
    assert len(made) > len(first.outputs)


def test_reasons_are_those_of_the_parts():
    graph = check(Lambda(lambda s, x: x.sin().transpose(1, 2).clamp(0, 1)), noise(2, 3, 8))
    (operator,) = graph.operators
    assert operator.target == "sin, permute, clamp"
    assert operator.reason == "there is no kernel for it; it moves numbers"
