"""Depthwise convolution against PyTorch in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import (
    ACTIVATIONS,
    LANES,
    SIDES,
    few_examples,
    random_images,
    random_values,
)
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run

from gpmt.runtime.ir.activation import RELU6
from gpmt.runtime.kernels.depthwise_conv import DepthwiseConvKernel
from gpmt.runtime.layout.planes import Planes


def convolution(seed, source, size, kernel, stride, padding, dilation, added, activation):
    """Return images, weight, bias, residual (or None) and the result in PyTorch."""
    images, weight = random_images(seed, source), random_values(seed + 1, source.channels, 1, *kernel)
    bias = random_values(seed + 2, source.channels)
    residual = random_values(seed + 3, source.images, source.channels, *size) if added else None
    padded = F.pad(torch.from_numpy(images).double(), (padding[1], padding[3], padding[0], padding[2]))
    result = F.conv2d(
        padded,
        torch.from_numpy(weight).double(),
        torch.from_numpy(bias).double(),
        stride,
        0,
        dilation,
        source.channels,
    )
    assert result.shape[2:] == size
    if residual is not None:
        result = result + torch.from_numpy(residual)
    return images, weight, bias, residual, ACTIVATIONS[activation](result).float().numpy()


@st.composite
def cases(draw):
    """Draw the layouts and windows of a convolution; pitches and gaps have no more zeros than the windows read."""
    h, w = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (5, 5), (1, 3), (2, 4), (7, 7)]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 3)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 1)]))
    padding = (
        tuple(draw(st.sampled_from([0, (k - 1) * d // 2, k])) for k, d in zip(kernel, dilation, strict=True))
        * 2
    )
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    room = [length + 2 * padding[i] - reach[i] for i, length in enumerate((h, w))]
    assume(min(room) >= 0)
    size = tuple(r // s + 1 for r, s in zip(room, stride, strict=True))
    pitch = max(w + padding[1], size[1] if stride == (1, 1) else 0) + draw(st.integers(0, 5))
    below = max(0, (size[0] - 1) * stride[0] + reach[0] - padding[0] - h)
    gap = max(padding[0], below) * pitch + padding[1]
    source = Planes(draw(st.integers(1, 2)), draw(st.integers(1, 5)), h, w, pitch, gap)
    same = draw(st.booleans()) and stride == (1, 1)
    pitch = pitch if same else size[1] + draw(st.integers(0, 9))
    output = Planes(source.images, source.channels, *size, pitch, draw(st.integers(0, 50)))
    return source, output, kernel, stride, padding, dilation


@few_examples
@given(
    cases(), LANES, SIDES, st.booleans(), st.booleans(), st.sampled_from([*ACTIVATIONS]), st.integers(0, 99),
)  # fmt: skip
def test_equals_pytorch(case, lanes, side, added, wide, activation, seed):
    source, output, kernel, stride, padding, dilation = case
    extra = (
        Planes(output.images, output.channels, output.height, output.width, output.pitch + wide, 3)
        if added
        else None
    )
    size = output.height, output.width
    images, weight, bias, residual, expected = convolution(
        seed, source, size, kernel, stride, padding, dilation, added, activation
    )
    spec = DepthwiseConvKernel(
        lanes, source, output, kernel, stride, padding[:2], dilation, extra, activation
    )
    result = Buffer(output, at=side)
    args = {
        "input": Buffer(source, images, side),
        "output": result,
        "residual": Buffer(extra, residual, side) if extra else 0,
        "weights": copied(DepthwiseConvKernel.pack_weights(weight, bias), side),
        "mask": copied(output.mask(), side),
    }
    run(spec, args)
    result.check(expected)


@pytest.mark.parametrize("size", [112, 56, 28, 14, 7])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_sizes_of_mobile_networks(size, kernel, stride):
    pad, side = kernel // 2, -(-size // stride)
    source = Planes(1, 5, size, size, size + pad, pad * (size + pad) + pad)
    output = Planes(1, 5, side, side, side + pad, 60)
    arguments = ((kernel, kernel), (stride, stride), (pad,) * 4, (1, 1))
    images, weight, bias, _, expected = convolution(0, source, (side, side), *arguments, False, RELU6)
    spec = DepthwiseConvKernel(8, source, output, *arguments[:2], (pad, pad), activation=RELU6)
    result = Buffer(output)
    args = {
        "residual": 0,
        "mask": copied(output.mask()),
        "weights": copied(DepthwiseConvKernel.pack_weights(weight, bias)),
    }
    run(spec, {"input": Buffer(source, images), "output": result, **args}, backwards(spec))
    result.check(expected)


@pytest.mark.parametrize("size", [(5, 3), (7, 7), (1, 1), (40, 2), (30, 9)])
@pytest.mark.parametrize("added", [False, True])
def test_short_rows_as_one_line(size, added):
    kernel, padding, dilation = (3, 2), (2, 1, 2, 0), (2, 1)
    pitch = size[1] + 1
    source = Planes(2, 3, *size, pitch, 2 * pitch + 1)
    output = Planes(2, 3, *size, pitch, 4)
    arguments = kernel, (1, 1), padding, dilation
    images, weight, bias, residual, expected = convolution(0, source, size, *arguments, added, RELU6)
    extra = Planes(2, 3, *size, pitch, 0) if added else None
    spec = DepthwiseConvKernel(16, source, output, kernel, (1, 1), padding[:2], dilation, extra, RELU6)
    assert spec.as_line == (size != (1, 1))
    result = Buffer(output)
    args = {"mask": copied(output.mask())}
    args["weights"] = copied(DepthwiseConvKernel.pack_weights(weight, bias))
    args["residual"] = Buffer(extra, residual) if extra else 0
    run(spec, {"input": Buffer(source, images), "output": result, **args})
    result.check(expected)


@pytest.mark.native_only
def test_both_loop_nests_are_used():
    """Short rows as one line, long ones by rows; else the tests above would test only one of them."""
    short, long = Planes(1, 1, 3, 3, 4, 8), Planes(1, 1, 56, 56, 57, 58)
    assert DepthwiseConvKernel(16, short, short, (3, 3)).as_line
    assert not DepthwiseConvKernel(8, long, long, (3, 3)).as_line
