"""Activations, sums, products and quotients."""

import pytest
import torch
from tests.runtime.frontend.translated import check_fallback, check_image
from tests.runtime.networks import Lambda, check, kinds, noise
from torch import nn
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: Lambda(lambda s, x: x + x[:, :, :1]), (2, 4, 7, 6), "different shapes"),
        (lambda: Lambda(lambda s, x: torch.add(x, x.relu(), alpha=2)), (2, 4, 7, 6), "one side is scaled"),
        (lambda: Lambda(lambda s, x: x.clamp(x - 1, x + 1)), (2, 4, 7, 6), "no kernel for its bounds"),
    ],
)
def test_fallbacks(make, shape, reason):
    check_fallback(make, shape, reason)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: (1 - (x - s.m) / s.d) * s.m - 3, {"Affine": 1}),
        (lambda s, x: x + x, {"Add": 1}),
        (lambda s, x: F.hardsigmoid(x), {"Affine": 1}),
        (lambda s, x: x * x, {"Multiply": 1}),
        (lambda s, x: x * 1e-35 / 1e-40, {"Affine": 1, "div": 1}),
        # Rounding to whole numbers.
        (lambda s, x: (x * 10 + 12582912.0) - 12582912.0, {"Affine": 3}),
        (lambda s, x: x + 1000.0 - 1000.5, {"Affine": 1}),
        (lambda s, x: (x * (x + 1)).relu(), {"Affine": 1, "Multiply": 1}),
        (lambda s, x: x.mean((2, 3), keepdim=True) * x, {"GlobalMean": 1, "Multiply": 1}),
        (
            lambda s, x: x * x.sigmoid().mean((2, 3), keepdim=True),
            {"Affine": 1, "GlobalMean": 1, "Multiply": 1},
        ),
        (lambda s, x: x.mean((2, 3)) * 2, {"GlobalMean": 1, "Affine": 1}),
        (lambda s, x: x * x[:, :, :1], {"slice, mul": 1}),
    ],
)
def test_images(function, expected):
    check_image(function, expected)


@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        F.relu6,
        F.silu,
        F.hardswish,
        F.sigmoid,
        torch.relu,
        lambda x: F.hardtanh(x, -0.5, 0.25),
        lambda x: x.clamp(max=0.5),
        lambda x: x.clamp(min=-0.5),
        lambda x: torch.clip(x, -1, 1),
        lambda x: x.clamp_min(0.1).clone().clamp_max_(0.5),
        lambda x: x.clone().relu_(),
        lambda x: x * x.sigmoid(),
        lambda x: x.sigmoid() * x,
        lambda x: x * F.hardsigmoid(x),
        lambda x: x * F.relu6(x + 3) / 6,
        lambda x: x * (F.relu6(x + 3) / 6),
        lambda x: F.relu6(x + 3) * x * (1 / 6),
    ],
)
def test_activations_of_images(function):
    """On their own, and after a convolution as part of it."""
    x = noise(2, 4, 5, 5) * 4
    graph = check(Lambda(lambda s, x: function(x)), x)
    assert kinds(graph).keys() == {"Affine"}
    network = Lambda(lambda s, x: function(s.conv(x)), conv=nn.Conv2d(4, 3, 3))
    graph = check(network, x)
    assert sum(type(o).__name__ == "Conv" and o.activation.kind != "none" for o in graph.operators) == 1
    assert kinds(graph).keys() <= {"Conv", "Affine"}
