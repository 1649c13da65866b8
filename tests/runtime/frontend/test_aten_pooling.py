"""Pooling and means of images: with kernels where the result is exactly the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.frontend.translated import check_fallback, check_image
from tests.runtime.networks import Lambda, check, kinds, noise
from torch import nn
from torch.nn import functional as F

from gpmt.runtime.frontend.capture import capture


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: nn.MaxPool2d(2, dilation=2), (2, 4, 7, 6), "dilated"),
        (lambda: nn.MaxPool2d(2, return_indices=True), (2, 4, 7, 6), "further results are read"),
        (lambda: nn.AvgPool2d(3, divisor_override=4), (2, 4, 7, 6), "its divisor is given"),
        (lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), (2, 4, 6, 6), "rounded up"),
        (lambda: nn.AdaptiveAvgPool2d(3), (2, 4, 7, 6), "several sizes"),
        (lambda: Lambda(lambda s, x: x.mean((1, 2))), (2, 4, 7, 6), "not over height and width"),
    ],
)
def test_fallbacks(make, shape, reason):
    check_fallback(make, shape, reason)


@settings(max_examples=60)
@given(
    st.sampled_from(["max", "mean"]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.booleans(),
    st.booleans(),
)
def test_pools(kind, size, kernel, stride, padding, ceil, count):
    """Whatever its windows: exactly the same, native or not."""
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    if any(s + 2 * p < k for s, p, k in zip(size, padding, kernel, strict=True)):
        return
    if kind == "max":
        pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    else:
        pool = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=count)
    graph = check(pool, noise(2, 3, *size))
    whole = all((s + 2 * p - k) % d == 0 for s, p, k, d in zip(size, padding, kernel, stride, strict=True))
    if kind == "mean" and kernel == size and not any(padding):
        assert kinds(graph) == {"GlobalMean": 1}
    elif kind == "max" or whole or not ceil or not count:
        assert kinds(graph) == {"Pool": 1}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda s, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2), {"Pool": 1}),
        (lambda s, x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2), {"Pool": 1}),
        (lambda s, x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2, 1), {"Pool": 1}),
        (lambda s, x: F.avg_pool2d(x, 3, 1, 1, divisor_override=9), {"Pool": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(x, 1), {"GlobalMean": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(x, 1).flatten(1), {"GlobalMean": 1}),
        (lambda s, x: x.mean((-1, 2)), {"GlobalMean": 1}),
        (lambda s, x: x.mean((2, 3), keepdim=True), {"GlobalMean": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(x, (7, 6)) * 2, {"Affine": 1}),
        (lambda s, x: F.adaptive_avg_pool2d(x, (7, 2)), {"Pool": 1}),
        (lambda s, x: F.adaptive_max_pool2d(x, (1, 3)), {"Pool": 1}),
    ],
)
def test_images(function, expected):
    check_image(function, expected)


def test_pools_of_very_wide_images_stay_on_pytorch():
    graph = capture(nn.MaxPool2d(2), torch.zeros(1, 1, 2, (1 << 14) + 1)).graph
    assert [operator.reason for operator in graph.operators] == ["its input has more than 16384 columns"]
