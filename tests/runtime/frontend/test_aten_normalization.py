"""Calls of layer norm, RMS norm and group norm."""

import pytest
from tests.runtime.frontend.translated import check_fallback
from tests.runtime.networks import Lambda, check, noise
from torch import nn
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("make", "shape", "expected"),
    [
        (lambda: nn.LayerNorm(6), (2, 5, 6), {"LayerNorm": 1}),
        (lambda: nn.LayerNorm(6, elementwise_affine=False), (5, 6), {"LayerNorm": 1}),
        (lambda: nn.LayerNorm(6, bias=False), (2, 3, 4, 6), {"LayerNorm": 1}),
        (lambda: nn.RMSNorm(6), (2, 5, 6), {"LayerNorm": 1}),
        (lambda: nn.RMSNorm(6, eps=0.1), (2, 5, 6), {"LayerNorm": 1}),
        (lambda: nn.GroupNorm(3, 6), (2, 6, 4, 5), {"GroupNorm": 1}),
    ],
)
def test_norms(make, shape, expected):
    network = make().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 1, 0.5)
    check(network, noise(*shape), optimized=expected)


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: nn.LayerNorm((5, 6)), (2, 5, 6), "not over the last dimension of several"),
        (lambda: nn.LayerNorm(6), (6,), "not over the last dimension of several"),
        (lambda: nn.GroupNorm(2, 6), (2, 6, 5), "its input has 3 dimensions, not 4"),
        (lambda: Lambda(lambda s, x: F.layer_norm(x, (6,), x[0, 0])), (2, 5, 6), "its weight is computed"),
        (
            lambda: Lambda(lambda s, x: F.layer_norm(x.bfloat16(), (6,)).float()),
            (2, 5, 6),
            "its input is bfloat16",
        ),
    ],
)
def test_fallbacks(make, shape, reason):
    check_fallback(make, shape, reason)
