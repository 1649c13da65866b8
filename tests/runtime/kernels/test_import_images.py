"""Images into planes and phases, from tensors of any strides, against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, layouts, random_values
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run
from tests.runtime.kernels.phase_planes import phase_planes, strides

from gpmt.runtime.kernels.import_images import ImportImagesKernel
from gpmt.runtime.layout.planes import Planes

ORDERS = {"nchw": (0, 1, 2, 3), "nhwc": (0, 2, 3, 1), "nwhc": (0, 3, 2, 1), "hcnw": (2, 1, 0, 3)}


def arguments(source, byte_strides, output):
    names = "stride_n", "stride_c", "stride_h", "stride_w"
    return {"input": source, "output": output, **dict(zip(names, byte_strides, strict=True))}


@few_examples
@given(st.data(), LANES, SIDES, strides(), st.sampled_from([*ORDERS]), st.booleans())
def test_any_strides(data, lanes, side, stride_and_phases, order, many_channels):
    stride, phases = stride_and_phases if not many_channels else ((1, 1), ((0, 0),))
    channels = data.draw(st.integers(14, 35)) if many_channels else data.draw(st.integers(1, 5))
    n, h, w = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    axes = ORDERS[order]
    shape = (n, channels, h, w)
    stored = copied(random_values(h, *(shape[i] for i in axes)), side)
    images = stored.transpose(np.argsort(axes))
    assert images.shape == shape
    expected = phase_planes(images, stride, phases)
    output = Buffer(data.draw(layouts(*expected.shape)), at=side)
    spec = ImportImagesKernel(lanes, channels, h, w, output.layout, stride, phases)
    run(spec, arguments(stored, images.strides, output))
    output.check(expected, tolerance=0)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_stem_in_several_items(order):
    """Large images are split into several items for each channel, which can be done in any order."""
    images = torch.randn(2, 3, 224, 224).contiguous(memory_format=order)
    layout = Planes(2, 12, 112, 112, 114, 228)
    phases = ((0, 0), (0, 1), (1, 0), (1, 1))
    spec = ImportImagesKernel(8, 3, 224, 224, layout, (2, 2), phases)
    assert spec.items >= 6
    output = Buffer(layout)
    byte_strides = [4 * stride for stride in images.stride()]
    stored = copied(images.numpy().transpose(0, 2, 3, 1) if order is torch.channels_last else images.numpy())
    run(spec, arguments(stored, byte_strides, output), backwards(spec))
    output.check(phase_planes(images.numpy(), (2, 2), phases), tolerance=0)
