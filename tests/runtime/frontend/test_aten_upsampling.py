"""Nearest-neighbour upsampling."""

import pytest
from tests.runtime.frontend.translated import check_image
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: F.interpolate(x, scale_factor=2), {"Upsample": 1}),
        (lambda s, x: F.interpolate(x, scale_factor=(1, 4), mode="nearest-exact"), {"Upsample": 1}),
        (lambda s, x: F.interpolate(x, size=(14, 12), mode="nearest"), {"Upsample": 1}),
        (lambda s, x: F.interpolate(x, scale_factor=2.1), {"upsample_nearest2d": 1}),
        (lambda s, x: F.interpolate(x, size=(7, 9)), {"upsample_nearest2d": 1}),
    ],
)
def test_images(function, expected):
    check_image(function, expected)
