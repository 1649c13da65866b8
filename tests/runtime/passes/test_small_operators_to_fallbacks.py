"""Sums, products and slices become fallbacks where no large operator on images is near."""

import torch
from tests.runtime.networks import Lambda, check, kinds, noise
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.ir.operators import Fallback
from gpmt.runtime.ir.torch_calls_encoding import encode_calls


def test_sums_far_from_images_stay_on_pytorch():
    """[n, h, w, c] looks like an image; without a convolution near it, packing it would cost more than the sum."""

    def function(s, x):
        y = x.permute(0, 2, 3, 1)
        y = s.l0(F.layer_norm(y, (8,))) + y
        y = (y * s.m.view(1, 4, 1, 1) + s.m.view(4, 1, 1)).clamp(-1, 2)
        y = F.silu(y * 2)[:, ::2, ::3]
        return F.layer_norm(y, (8,)).sum(3)

    graph = check(Lambda(function, m=noise(4), l0=nn.Linear(8, 8)), noise(2, 8, 4, 6))
    assert kinds(graph).keys() == {
        "permute, layer_norm",
        "Linear",
        "add, mul, clamp, silu, slice, layer_norm, sum",
    }
    assert all(encode_calls(operator.calls) for operator in graph.operators if isinstance(operator, Fallback))


def test_sums_beside_images_are_native():
    def function(s, x):
        y = torch.sin(x)
        return s.conv((y + x.cos()) * 2)

    torch.manual_seed(0)
    graph = check(Lambda(function, conv=nn.Conv2d(4, 3, 1)), noise(2, 4, 5, 5))
    assert kinds(graph) == {"sin, cos": 1, "Add": 1, "Affine": 1, "Conv": 1}
