"""New shapes of the same elements, and copies."""

import pytest
import torch
from tests.runtime.frontend.translated import check_fallback, check_image
from tests.runtime.networks import Lambda
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: Lambda(lambda s, x: x.to(torch.int32)), (2, 4, 7, 6), "changes shape or type"),
    ],
)
def test_fallbacks(make, shape, reason):
    check_fallback(make, shape, reason)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: x.flatten(1), {"Reshape": 1}),
        (lambda s, x: x.transpose(1, 2), {"permute": 1}),
        (lambda s, x: x.transpose(1, 2).transpose(2, 1) * 2, {"Affine": 1}),
        (lambda s, x: x.permute(0, 2, 3, 1).flatten(1, 2), {"PixelsToTokens": 1}),
        (lambda s, x: s.m[0, 0, 0] + x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).relu(), {"Affine": 1}),
        (lambda s, x: x.view(2, 2, 2, -1).reshape(8, -1), {"Reshape": 1}),
        (lambda s, x: x[:, :1, :1].permute(1, 2, 0, 3).squeeze(), {"Slice": 1, "slice, reshape": 1}),
        (lambda s, x: x.mean((2, 3), keepdim=True).permute(2, 0, 3, 1), {"GlobalMean": 1, "Reshape": 1}),
        (lambda s, x: x.unsqueeze(0).squeeze(0).contiguous().clone().detach().float() + 1, {"Affine": 1}),
        (lambda s, x: F.dropout(x, training=False).relu(), {"Affine": 1}),
    ],
)
def test_images(function, expected):
    check_image(function, expected)
