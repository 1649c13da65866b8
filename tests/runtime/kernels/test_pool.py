"""Pooling, against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.guarded import Buffer, close, copied, run

from gpmt.runtime.kernels.pool import GlobalMeanKernel, MaxPoolKernel, MeanPoolKernel
from gpmt.runtime.layout.planes import Planes

sides = st.sampled_from(["start", "end"])
lanes = st.sampled_from([4, 8, 16])
few = settings(max_examples=12, deadline=None)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def windows(images, kernel, stride, padding, outside, size):
    """Return all windows [n, c, height, width, kernel...] of images with `outside` around them."""
    top, left = padding[:2]
    n, c, h, w = images.shape
    high = max(top + h, (size[0] - 1) * stride[0] + kernel[0])
    wide = max(left + w, (size[1] - 1) * stride[1] + kernel[1])
    whole = np.full((n, c, high, wide), outside, np.float32)
    whole[:, :, top : top + h, left : left + w] = images
    views = np.lib.stride_tricks.sliding_window_view(whole, kernel, (2, 3))
    return views[:, :, :: stride[0], :: stride[1]][:, :, : size[0], : size[1]]


@st.composite
def cases(draw):
    """Return a layout, the window and the size of the output; ceil_mode's larger outputs too."""
    h, w = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    kernel = draw(st.sampled_from([(2, 2), (3, 3), (1, 3), (5, 2), (7, 7), (10, 4)]))
    stride = draw(st.sampled_from([(1, 1), (2, 2), (2, 2), (2, 1), (3, 3), (1, 2)]))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel * 2)
    size, ceil = [], draw(st.booleans())
    for i, length in enumerate((h, w)):
        room = length + padding[i] + padding[i + 2] - kernel[i]
        assume(room >= 0)
        count = room // stride[i] + 1
        # A further window if it begins inside.
        more = ceil and room % stride[i] and count * stride[i] < length + padding[i]
        size.append(count + bool(more))
    source = Planes(
        draw(st.integers(1, 2)),
        draw(st.integers(1, 5)),
        h,
        w,
        w + draw(st.integers(0, 9)),
        draw(st.integers(0, 50)),
    )
    output = Planes(
        source.images, source.channels, *size, size[1] + draw(st.integers(0, 9)), draw(st.integers(0, 50))
    )
    return source, output, kernel, stride, padding


@few
@given(cases(), lanes, sides, st.booleans())
def test_max(case, lanes, side, special):
    source, output, kernel, stride, padding = case
    images = numbers(source.images, source.channels, source.height, source.width)
    if special:
        odd = np.random.default_rng(0).choice(
            [np.nan, -np.nan, np.inf, -np.inf, 0, 1], images.shape, p=[0.02] * 4 + [0.9, 0.02]
        )
        images = np.where(odd == 0, images, odd).astype(np.float32)
    expected = windows(images, kernel, stride, padding, -np.inf, (output.height, output.width)).max((4, 5))
    result = Buffer(output, at=side)
    spec = MaxPoolKernel(lanes, source, output, kernel, stride, padding)
    run(spec, {"input": Buffer(source, images, side), "output": result})
    result.check(expected, tolerance=0)


@few
@given(cases(), lanes, sides, st.booleans())
def test_mean(case, lanes, side, count_padding):
    source, output, kernel, stride, padding = case
    images = numbers(source.images, source.channels, source.height, source.width)
    size = output.height, output.width
    sums = windows(images.astype(np.float64), kernel, stride, padding, 0, size).sum((4, 5), dtype=np.float64)
    inside = windows(np.ones_like(images), kernel, stride, padding, 0, size).sum((4, 5))
    expected = (sums / (kernel[0] * kernel[1] if count_padding else inside)).astype(np.float32)
    result = Buffer(output, at=side)
    spec = MeanPoolKernel(lanes, source, output, kernel, stride, padding, count_padding)
    run(
        spec, {"input": Buffer(source, images, side), "output": result, "scales": copied(spec.scales(), side)}
    )
    result.check(expected, tolerance=2e-6)


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
@pytest.mark.parametrize("size", [112, 57])
def test_the_usual_pools_are_those_of_pytorch(kernel, stride, pad, size):
    images = torch.randn(2, 3, size, size)
    images[0, 0, 5, 7] = torch.nan
    images[1, 2] = -torch.inf
    source = Planes(2, 3, size, size, size + 1, size + 2)
    padding = (pad,) * 4
    for function, kind in ((F.max_pool2d, MaxPoolKernel), (F.avg_pool2d, MeanPoolKernel)):
        expected = function(images, kernel, stride, pad).numpy()
        side = expected.shape[2]
        spec = kind(
            8, source, Planes(2, 3, side, side, side + 1, 60), (kernel, kernel), (stride, stride), padding
        )
        assert kind is not MaxPoolKernel or size < 112 or spec.items > 2
        output = Buffer(spec.output)
        args = {"input": Buffer(source, images.numpy()), "output": output}
        run(
            spec,
            args | ({"scales": spec.scales()} if kind is MeanPoolKernel else {}),
            reversed(range(spec.items)),
        )
        output.check(expected, tolerance=2e-6)


@few
@given(
    lanes, sides, st.integers(1, 3), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9),
    st.booleans(),
)  # fmt: skip
def test_mean_of_channels(lanes, side, images, channels, height, width, pad, vectors):
    source = Planes(images, channels, height, width, width + pad, pad)
    values = numbers(images, channels, height, width)
    means = values.mean((2, 3), dtype=np.float64, keepdims=True).astype(np.float32)
    output = Planes(1, channels, 1, images, images, 0) if vectors else Planes(images, channels, 1, 1, 3, 2)
    result = Buffer(output, np.zeros((output.images, output.channels, output.height, output.width)), side)
    run(GlobalMeanKernel(lanes, source, output), {"input": Buffer(source, values, side), "output": result})
    close(result.pixels, means.transpose(2, 1, 3, 0) if vectors else means, 1e-5)
    rest = result.numbers[: output.origin + output.images * output.image_stride].copy()
    output.view(rest)[...] = 0
    assert not rest.any()
