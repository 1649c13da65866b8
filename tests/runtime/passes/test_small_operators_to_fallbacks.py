"""Sums, products and slices become fallbacks where no large operator on images is near."""

import torch
from tests.runtime.networks import Lambda, check, kinds, noise
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.ir.operators import Fallback
from gpmt.runtime.ir.torch_calls_encoding import encode_calls


def test_sums_far_from_images_stay_on_pytorch():
    """Without a convolution near it, packing an image would cost more than the sum."""

    def function(s, x):
        y = x.sin()
        y = F.layer_norm(y, (6,)) + y
        y = (y * s.m.view(1, 4, 1, 1) + s.m.view(4, 1, 1)).clamp(-1, 2)
        y = F.leaky_relu(F.gelu(F.silu(y * 2)[:, :, ::2, ::3]), 0.2)
        return F.layer_norm(y, (2,)).sum(3)

    graph = check(Lambda(function, m=noise(4)), noise(2, 4, 4, 6))
    names = "sin, layer_norm, add, mul, clamp, silu, slice, gelu, leaky_relu, sum"
    assert kinds(graph) == {names: 1}
    assert all(encode_calls(operator.calls) for operator in graph.operators if isinstance(operator, Fallback))


def test_sums_beside_images_are_native():
    def function(s, x):
        y = torch.sin(x)
        return s.conv((y + x.cos()) * 2)

    torch.manual_seed(0)
    graph = check(Lambda(function, conv=nn.Conv2d(4, 3, 1)), noise(2, 4, 5, 5))
    assert kinds(graph) == {"sin, cos": 1, "Add": 1, "Affine": 1, "Conv": 1}
