"""Products that are an activation, and some that are not."""

import pytest
from tests.runtime.passes.patterns import check_pattern
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: s.one(x) * s.one(x).sigmoid(), {"Conv": 2, "Multiply": 1}),
        (lambda s, x: x * x.sigmoid(), {"Affine": 1}),
        (lambda s, x: x * (x * 2).sigmoid(), {"Affine": 1, "Multiply": 1}),
        (lambda s, x: x * F.relu6(x + 3) / 6, {"Affine": 1}),
        (lambda s, x: x * F.relu6(x + 3), {"Affine": 2}),
        (lambda s, x: x * F.relu6(x + 2), {"Affine": 1, "Multiply": 1}),
        (lambda s, x: x * F.hardsigmoid(x), {"Affine": 1}),
    ],
)
def test_patterns(function, expected):
    check_pattern(function, expected)
