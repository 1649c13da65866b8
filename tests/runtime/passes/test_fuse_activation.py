"""Activations become part of the operator before them, where only they read it."""

import pytest
from tests.runtime.passes.patterns import check_pattern
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: F.relu6(x.relu()), {"Affine": 1}),
        (lambda s, x: (s.one(x).relu() + s.two(x).relu()).relu(), {"Conv": 2, "Add": 1}),
        (lambda s, x: (s.one(x) + x.relu()).clamp(-1, 1).relu(), {"Affine": 1, "Conv": 1}),
        (lambda s, x: s.linear(x.mean((2, 3))).sigmoid(), {"GlobalMean": 1, "Linear": 1}),
        (
            lambda s, x: (lambda y: (y.relu(), y))(s.linear(x.mean((2, 3)))),
            {"GlobalMean": 1, "Linear": 1, "Affine": 1},
        ),
    ],
)
def test_patterns(function, expected):
    check_pattern(function, expected)
