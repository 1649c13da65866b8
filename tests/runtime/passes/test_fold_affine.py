"""Batch-norm and constant factors are multiplied into weights where that is exact."""

import numpy as np
import pytest
import torch
from tests.runtime.networks import Lambda, check, kinds, noise, scramble
from tests.runtime.passes.patterns import IMAGE, check_pattern
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operators import Affine, Conv
from gpmt.runtime.ir.values import Value
from gpmt.runtime.passes.pipeline import optimize


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: s.norm(s.one(x)).relu(), {"Conv": 1}),
        (lambda s, x: (lambda y: (s.norm(y), y))(s.one(x)), {"Conv": 1, "Affine": 1}),
        (lambda s, x: s.norm(s.one(x).relu()), {"Conv": 1, "Affine": 1}),
        (lambda s, x: s.norm(x), {"Affine": 1}),
        (lambda s, x: s.one(s.norm(x)), {"Conv": 1, "Affine": 1}),
        (lambda s, x: s.norm(s.norm(x)), {"Affine": 1}),
        (lambda s, x: s.norm(s.one(x) + x), {"Conv": 1, "Affine": 1}),
        (lambda s, x: s.one(x) * 1 + 0, {"Conv": 1}),
        (lambda s, x: s.vectors(s.linear(x.mean((2, 3)))).relu(), {"GlobalMean": 1, "Linear": 1}),
    ],
)
def test_patterns(function, expected):
    check_pattern(function, expected)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_keeps_zeros(groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, groups=groups, bias=groups == 2)
    with torch.no_grad():
        conv.weight.mul_(torch.rand_like(conv.weight) < 0.3)
        conv.weight[3] = 0
    norm = nn.BatchNorm2d(8)
    network = scramble(nn.Sequential(conv, norm, nn.ReLU6()))
    with torch.no_grad():
        norm.weight[1] *= -1
    graph = check(network, IMAGE, captured={"Conv": 1, "Affine": 2}, optimized={"Conv": 1})
    (conv_of_both,) = graph.operators
    assert (conv_of_both.activation.low, conv_of_both.activation.high) == (0, 6)
    assert np.array_equal(conv_of_both.weight != 0, conv.weight.detach().numpy() != 0)
    exact = (
        conv.weight.double()
        * (norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt())[:, None, None, None]
    )
    assert (
        np.abs(conv_of_both.weight - exact.detach().numpy()).max()
        <= 2.0**-23 * np.abs(exact.detach().numpy()).max()
    )


def test_linear_of_images_in_another_order():
    """Where channels come last, an operator on images must not fold along another dimension."""
    torch.manual_seed(0)
    linear = nn.Linear(4, 4)
    x = noise(2, 4, 4, 4)
    check(Lambda(lambda s, x: F.hardsigmoid(s.linear(x)), linear=linear), x)
    check(scramble(Lambda(lambda s, x: s.norm(s.linear(x)), linear=linear, norm=nn.BatchNorm2d(4))), x)
    check(Lambda(lambda s, x: F.relu(s.linear(x)), linear=linear), x, optimized={"Linear": 1})


def test_infinite_scales_do_not_touch_zeros():
    zeros, ones = np.zeros(2, np.float32), np.ones(2, np.float32)
    values = {name: Value(name, (1, 2, 3, 3)) for name in "xyz"}
    conv = Conv("x", "y", np.zeros((2, 2, 1, 1), np.float32), ones)
    scale = np.array([np.inf, 1], np.float32)
    graph = optimize(Graph(values, [conv, Affine("y", "z", scale, zeros)], ["x"], ["z"]))
    assert kinds(graph) == {"Conv": 1, "Affine": 1}
