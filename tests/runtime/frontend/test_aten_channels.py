"""Slices, splits and concatenations."""

import pytest
import torch
from tests.runtime.frontend.translated import check_fallback, check_image
from tests.runtime.networks import Lambda


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: Lambda(lambda s, x: torch.cat([x, x], 2)), (2, 4, 7, 6), "not along the channels"),
        (lambda: Lambda(lambda s, x: torch.cat([x, x], 1)), (2, 4, 7), "not along the channels"),
    ],
)
def test_fallbacks(make, shape, reason):
    check_fallback(make, shape, reason)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: x[:, :, ::2, ::3], {"Pool": 1}),
        (lambda s, x: x[:, :, 1:], {"slice": 1}),
        (lambda s, x: torch.cat([x, x.relu(), x], -3), {"Affine": 1, "Concat": 1}),
        (lambda s, x: torch.cat([x], 0).relu(), {"Affine": 1}),
        (lambda s, x: x[:0], {"slice": 1}),
        (lambda s, x: x.chunk(2, 1)[1] * 2, {"Slice": 1, "Affine": 1}),
        (lambda s, x: torch.split(x, [1, 3], -3)[0] + x[:, 2:3], {"Slice": 2, "Add": 1}),
        (lambda s, x: x.tensor_split(3, 1)[2], {"Slice": 1}),
        (lambda s, x: x[:, -2:-1], {"Slice": 1}),
        (lambda s, x: x.chunk(2, 2)[1] * 2, {"slice": 1, "Affine": 1}),
        (lambda s, x: x.sin()[:, 1:].cos(), {"sin, slice, cos": 1}),
    ],
)
def test_images(function, expected):
    check_image(function, expected)
