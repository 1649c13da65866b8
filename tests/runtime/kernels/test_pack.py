"""Images in and out of planes, against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.kernels.guarded import Buffer, copied, guarded, run

from gpmt.runtime.kernels.pack import ExportImagesKernel, ImportImagesKernel, PhasesKernel
from gpmt.runtime.layout.planes import Planes

sides = st.sampled_from(["start", "end"])
lanes = st.sampled_from([4, 8, 16])
few = settings(max_examples=12, deadline=None)


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def layouts(draw, images=None, channels=None, height=None, width=None):
    """Return a layout with any pitch and gap, of sizes that are given or drawn."""
    height, width = height or draw(st.integers(1, 40)), width or draw(st.integers(1, 40))
    pitch = width + draw(st.integers(0, 3) | st.integers(0, 20))
    images, channels = images or draw(st.integers(1, 3)), channels or draw(st.integers(1, 5))
    return Planes(images, channels, height, width, pitch, draw(st.integers(0, 70)))


def phase_planes(images, stride, phases):
    """Return what `PhasesKernel` should make [n, c · len(phases), ceil(h / sy), ceil(w / sx)]."""
    n, c, h, w = images.shape
    sy, sx = stride
    padded = np.zeros((n, c, -(-h // sy) * sy, -(-w // sx) * sx), np.float32)
    padded[:, :, :h, :w] = images
    parts = [padded[:, :, ry::sy, rx::sx] for ry, rx in phases]
    return np.stack(parts, 2).reshape(n, c * len(phases), *parts[0].shape[2:])


@st.composite
def strides(draw):
    """Return a stride and some of its phases."""
    stride = draw(st.sampled_from([(1, 1), (2, 2), (2, 2), (2, 1), (1, 2), (3, 3), (4, 2)]))
    phases = [(y, x) for y in range(stride[0]) for x in range(stride[1])]
    chosen = draw(st.just(phases) | st.lists(st.sampled_from(phases), min_size=1, unique=True))
    return stride, tuple(chosen)


@few
@given(st.data(), lanes, sides, strides(), st.integers(0, 2**20))
def test_phases(data, lanes, side, stride_and_phases, seed):
    stride, phases = stride_and_phases
    source = data.draw(layouts())
    images = numbers(seed, source.images, source.channels, source.height, source.width)
    expected = phase_planes(images, stride, phases)
    output = Buffer(data.draw(layouts(*expected.shape)), at=side)
    run(
        PhasesKernel(lanes, source, output.layout, stride, phases),
        {"input": Buffer(source, images, side), "output": output},
    )
    output.check(expected, tolerance=0)


@few
@given(st.data(), lanes, sides, strides(), st.sampled_from(["nchw", "nhwc", "nwhc", "sparse"]), st.booleans())
def test_import_of_any_strides(data, lanes, side, stride_and_phases, order, many_channels):
    stride, phases = stride_and_phases if not many_channels else ((1, 1), ((0, 0),))
    channels = data.draw(st.integers(14, 35)) if many_channels else data.draw(st.integers(1, 5))
    n, h, w = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    memory = {"nchw": (0, 1, 2, 3), "nhwc": (0, 2, 3, 1), "nwhc": (0, 3, 2, 1), "sparse": (2, 1, 0, 3)}[order]
    shape = (n, channels, h, w)
    stored = copied(numbers(h, *(shape[i] for i in memory)), side)
    images = stored.transpose(np.argsort(memory))
    assert images.shape == shape
    expected = phase_planes(images, stride, phases)
    output = Buffer(data.draw(layouts(*expected.shape)), at=side)
    steps = dict(zip(("stride_n", "stride_c", "stride_h", "stride_w"), images.strides, strict=True))
    spec = ImportImagesKernel(lanes, channels, h, w, output.layout, stride, phases)
    run(spec, {"input": stored, "output": output, **steps})
    output.check(expected, tolerance=0)


@few
@given(st.data(), lanes, sides)
def test_export(data, lanes, side):
    source = data.draw(layouts())
    images = numbers(1, source.images, source.channels, source.height, source.width)
    output = guarded(images.size, at=side).reshape(images.shape)
    run(ExportImagesKernel(lanes, source), {"input": Buffer(source, images, side), "output": output})
    np.testing.assert_array_equal(output, images)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_stem_in_parts(order):
    """Large images are cut into several items for each channel; they can be done in any order."""
    images = torch.randn(2, 3, 224, 224).contiguous(memory_format=order)
    layout = Planes(2, 12, 112, 112, 114, 228)
    phases = ((0, 0), (0, 1), (1, 0), (1, 1))
    spec = ImportImagesKernel(8, 3, 224, 224, layout, (2, 2), phases)
    assert spec.items >= 6
    output = Buffer(layout)
    steps = dict(
        zip(("stride_n", "stride_c", "stride_h", "stride_w"), (4 * s for s in images.stride()), strict=True)
    )
    run(spec, {"input": images.data_ptr(), "output": output, **steps}, reversed(range(spec.items)))
    output.check(phase_planes(images.numpy(), (2, 2), phases), tolerance=0)
