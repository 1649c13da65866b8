"""Operators without a kernel, which no other one took, stay on PyTorch with the reason."""

import pytest
from tests.runtime.networks import Lambda, check, noise

from gpmt.runtime.ir.operators import Fallback


@pytest.mark.parametrize(
    ("function", "target", "reason"),
    [
        (lambda s, x: x.transpose(1, 2), "permute", "it moves numbers"),
        (lambda s, x: x[:, :, :, 1:], "slice", "there is no kernel for its dimension"),
        (lambda s, x: x.softmax(-1), "softmax", "it is not part of an attention"),
        (
            lambda s, x: x @ x.sin(),
            "sin, matmul",
            "there is no kernel for it; it is not part of an attention",
        ),
    ],
)
def test_reasons(function, target, reason):
    graph = check(Lambda(function), noise(2, 3, 4, 4))
    (operator,) = graph.operators
    assert isinstance(operator, Fallback)
    assert (operator.target, operator.reason) == (target, reason)


def test_slices_with_kernels_stay():
    check(Lambda(lambda s, x: (x[:, 1:], x[:, :, 2:])), noise(2, 3, 4), optimized={"Slice": 2})
    check(Lambda(lambda s, x: x[:, 1:]), noise(2, 3, 4, 4), optimized={"Slice": 1})
