"""Translated calls: no copies of weights, and new random numbers at every call."""

import torch
from tests.runtime.frontend.translated import IMAGE
from tests.runtime.networks import Lambda
from torch import nn

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Fallback


def test_weights_are_not_copied():
    conv, linear = nn.Conv2d(4, 3, 3), nn.Linear(3, 2)
    network = Lambda(lambda s, x: s.linear(s.conv(x).mean((2, 3))), conv=conv, linear=linear)
    operators = capture(network, IMAGE).graph.operators
    assert operators[0].weight.ctypes.data == conv.weight.data_ptr()
    assert operators[-1].weight.ctypes.data == linear.weight.data_ptr()
    assert (operators[0].name, operators[-1].name) == ("conv.weight", "linear.weight")


def test_random_numbers_are_drawn_at_every_call():
    (operator,) = capture(Lambda(lambda s, x: torch.rand(3)), IMAGE).graph.operators
    assert isinstance(operator, Fallback)
    assert not torch.equal(operator.calls()[0], operator.calls()[0])
