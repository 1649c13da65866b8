"""Sums become part of a convolution."""

import pytest
import torch
from tests.runtime.networks import Lambda, check
from tests.runtime.passes.patterns import IMAGE, check_pattern
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.ir.operators import Add, Conv


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: s.one(x) + x, {"Conv": 1}),
        (lambda s, x: x + s.one(x), {"Conv": 1}),
        (lambda s, x: (s.one(x) + s.two(x)).relu(), {"Conv": 2}),
        (lambda s, x: (lambda y: y + s.two(y))(s.one(x)), {"Conv": 2}),
        (
            lambda s, x: (lambda y, z: F.max_pool2d(z, 3, 1, 1) + y)(s.one(x), s.two(x)),
            {"Conv": 2, "Pool": 1},
        ),
        (lambda s, x: s.one(x).relu() + s.two(x), {"Conv": 2}),
        (lambda s, x: s.one(x).relu() + s.two(x).relu(), {"Conv": 2, "Add": 1}),
        (lambda s, x: (lambda y: y + y)(s.one(x)), {"Conv": 1, "Add": 1}),
        (lambda s, x: s.one(x) + x + s.two(x), {"Conv": 2}),
    ],
)
def test_patterns(function, expected):
    check_pattern(function, expected)


def test_operators_stay_in_order():
    """The sum of a convolution and something later moves the convolution behind it."""
    torch.manual_seed(0)
    network = Lambda(lambda s, x: s.one(x) + F.max_pool2d(x, 3, 1, 1).relu(), one=nn.Conv2d(4, 4, 1))
    graph = check(network, IMAGE, optimized={"Pool": 1, "Affine": 1, "Conv": 1})
    assert isinstance(graph.operators[-1], Conv)
    assert not any(isinstance(operator, Add) for operator in graph.operators)
