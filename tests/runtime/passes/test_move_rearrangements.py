"""Rearrangements move behind what treats tokens alike, and cancel there."""

import pytest
import torch
from tests.runtime.networks import Lambda, check, noise
from torch import nn
from torch.nn import functional as F

TOKENS = noise(2, 5, 8)


def layers():
    torch.manual_seed(0)
    return {
        "linear": nn.Linear(8, 8),
        "norm": nn.LayerNorm(8),
        "scale": noise(8),
        "conv": nn.Conv2d(8, 8, 3, padding=1),
    }


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: s.linear(x.transpose(0, 1)).transpose(0, 1), {"Linear": 1}),
        (lambda s, x: s.linear(x.reshape(10, 8)).view(2, 5, 8), {"Linear": 1}),
        (lambda s, x: s.norm(x.transpose(0, 1)).transpose(0, 1) + x, {"LayerNorm": 1, "Add": 1}),
        (lambda s, x: F.gelu(s.linear(x).transpose(0, 1)).transpose(1, 0), {"Linear": 1}),
        (lambda s, x: (x.transpose(0, 1) * s.scale).transpose(1, 0), {"Affine": 1}),
        (lambda s, x: (x.transpose(0, 1) * x.relu().transpose(0, 1)).transpose(1, 0), {"Affine": 1, "Multiply": 1}),
        (lambda s, x: s.linear(x.transpose(0, 1)).transpose(0, 2), {"Linear": 1, "permute": 1}),
        (
            lambda s, x: s.linear(x.view(2, 5, 2, 4).transpose(2, 3).reshape(2, 5, 8)),
            {"Linear": 1, "reshape, permute": 1},
        ),
    ],
)  # fmt: skip
def test_tokens(function, expected):
    check(Lambda(function, **layers()), TOKENS, optimized=expected)


def convnext_block(s, x):
    y = s.conv(x).permute(0, 2, 3, 1)
    y = s.linear(F.gelu(s.linear(s.norm(y)))).permute(0, 3, 1, 2)
    return x + y * s.scale[:, None, None]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (convnext_block, {"Conv": 3, "LayerNorm": 1}),
        (lambda s, x: s.linear(s.conv(x).flatten(2).transpose(1, 2)), {"Conv": 2, "PixelsToTokens": 1}),
        (
            lambda s, x: s.norm(s.conv(x).permute(0, 2, 3, 1)) + 1,
            {"Conv": 1, "LayerNorm": 1, "Affine": 1, "PixelsToTokens": 1},
        ),
        (lambda s, x: s.conv(s.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), {"Conv": 2}),
    ],
)  # fmt: skip
def test_images(function, expected):
    check(Lambda(function, **layers()), noise(2, 8, 3, 5), optimized=expected)


def test_tokens_become_pixels():
    def function(s, x):
        return s.conv(s.norm(x).transpose(1, 2).reshape(2, 8, 3, 5))

    expected = {"LayerNorm": 1, "TokensToPixels": 1, "Conv": 1}
    check(Lambda(function, **layers()), noise(2, 15, 8), optimized=expected)
