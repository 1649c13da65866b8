"""Several reshapes become one, or none."""

import pytest
from tests.runtime.passes.patterns import check_pattern
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: s.one(x).flatten(1).view(2, 12, -1).flatten(1), {"Conv": 1, "Reshape": 1}),
        (lambda s, x: s.one(x).flatten(1).view(2, 4, 6, 6), {"Conv": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(s.one(x), 1).flatten(1), {"Conv": 1, "GlobalMean": 1}),
        (
            lambda s, x: (lambda y: (y.view(8, 36), y.view(4, 72)))(s.one(x).flatten(1)),
            {"Conv": 1, "Reshape": 2},
        ),
    ],
)
def test_patterns(function, expected):
    check_pattern(function, expected)
