"""Pairs and paddings out of numbers of ATen."""

import pytest
import torch
from torch.nn import functional as F

from gpmt.runtime.frontend.padding import add_padding, pair


@pytest.mark.parametrize(
    ("numbers", "expected"), [(3, (3, 3)), ([4], (4, 4)), ([1, 2], (1, 2)), (torch.Size([5, 6]), (5, 6))]
)
def test_pairs(numbers, expected):
    assert pair(numbers) == expected


def test_paddings_around_each_other_are_added():
    one, other = (1, 2, 3, 4), (0, 5, 6, 7)
    image = torch.zeros(1, 1, 2, 2)
    image[0, 0, 0, 0] = 1

    def pad(image, padding):
        top, left, bottom, right = padding
        return F.pad(image, (left, right, top, bottom))

    assert torch.equal(pad(pad(image, one), other), pad(image, add_padding(one, other)))
