"""Every n-th row and column: a stride of the operator before, or of a 1×1 convolution behind."""

import pytest
from tests.runtime.passes.patterns import check_pattern
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: s.pointwise(x[:, :, ::2, ::2]), {"Conv": 1}),
        (lambda s, x: s.one(x[:, :, ::2, ::2]), {"Conv": 1, "Pool": 1}),
        (lambda s, x: s.one(x)[:, :, ::2, ::2][:, :, ::2], {"Conv": 1}),
        (lambda s, x: (s.one(x) + x)[:, :, ::2], {"Conv": 1, "Pool": 1}),
        (lambda s, x: F.avg_pool2d(x, 3, 2, 1)[:, :, :, ::2], {"Pool": 1}),
    ],
)
def test_patterns(function, expected):
    check_pattern(function, expected)
