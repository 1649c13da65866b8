"""The taps of convolutions, read at constant offsets, against PyTorch's convolution in float64."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.runtime.ir.operators import Conv
from gpmt.runtime.layout.planes import CACHE_LINE, OVERREAD
from gpmt.runtime.layout.solver import LayoutSolver
from gpmt.runtime.layout.taps import ConvWindows

PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def convolutions(draw):
    """Draw an operator and the images that it reads."""
    kernel, stride = draw(PAIR), draw(PAIR)
    dilation = draw(st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 3, 60])))
    padding = draw(st.tuples(*[st.integers(0, 6)] * 4))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    height = draw(st.integers(max(1, reach[0] - padding[0] - padding[2]), 14))
    width = draw(st.integers(max(1, reach[1] - padding[1] - padding[3]), 14 + reach[1]))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, filters = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    weight = rng.standard_normal((filters, channels // groups, *kernel)).astype(np.float32)
    op = Conv("x", "y", weight, np.zeros(filters, np.float32), stride, padding, dilation, groups)
    return op, rng.standard_normal((2, channels, height, width))


def expected(op, images):
    top, left, bottom, right = op.padding
    padded = torch.nn.functional.pad(torch.tensor(images), (left, right, top, bottom))
    weight = torch.tensor(op.weight, dtype=torch.float64)
    return torch.nn.functional.conv2d(padded, weight, None, op.stride, 0, op.dilation, op.groups).numpy()


def laid_out(images, windows, output):
    """Return the layouts of phases and output, and a buffer of the phases, with NaN around it."""
    (sy, sx), phases = windows.stride, windows.phases
    solver = LayoutSolver()
    solver.add("x", len(images), images.shape[1] * len(phases), *windows.phase_size)
    solver.add("y", *output.shape)
    solver.share_pitch("x", "y")
    solver.need_zeros("x", **windows.zeros_read())
    layouts = solver.solve()
    layout = layouts["x"]
    buffer = np.full(layout.size, np.nan)
    buffer[layout.origin - layout.gap : layout.origin + layout.images * layout.image_stride] = 0.0
    pixels = np.zeros((layout.images, layout.channels, layout.height, layout.width))
    for i, (row, column) in enumerate(phases):
        part = images[:, :, row::sy, column::sx]
        pixels[:, i :: len(phases), : part.shape[2], : part.shape[3]] = part
    start = layout.origin + np.arange(layout.images)[:, None] * layout.image_stride
    for c in range(layout.channels):
        for y in range(layout.height):
            index = start + c * layout.plane_stride + y * layout.pitch + np.arange(layout.width)
            buffer[index] = pixels[:, c, y]
    return layouts, buffer


@settings(max_examples=150)
@given(convolutions())
def test_taps_read_what_a_convolution_reads(drawn):
    op, images = drawn
    right = expected(op, images)
    windows = ConvWindows.of(op, images.shape, right.shape)
    layouts, buffer = laid_out(images, windows, right)
    weight = op.weight.reshape(len(op.weight), -1)
    taps = windows.taps(layouts["x"])
    offsets = taps.offsets
    group = np.zeros(len(op.weight), int) if taps.filter_offsets is None else taps.filter_offsets
    source, output = layouts["x"], layouts["y"]
    assert weight.shape == (len(op.weight), len(offsets)) == (len(op.weight), len(taps.channels))
    assert (np.diff(taps.channels) >= 0).all()
    assert source.pitch == output.pitch
    assert not (offsets % 4).any()
    # Kernels also go through the padding behind the last row.
    end = (
        source.origin + (len(images) - 1) * source.image_stride + -(-output.extent // CACHE_LINE) * CACHE_LINE
    )
    assert end + (offsets.max() + group.max()) // 4 <= source.size - OVERREAD + CACHE_LINE
    ys, xs = np.arange(right.shape[2])[:, None], np.arange(right.shape[3])
    pixels = source.origin + ys * output.pitch + xs
    for n in range(len(images)):
        for f in range(len(op.weight)):
            read = buffer[n * source.image_stride + pixels + (offsets[:, None, None] + group[f]) // 4]
            found = np.tensordot(weight[f].astype(np.float64), read, 1)
            np.testing.assert_allclose(found, right[n, f], atol=1e-12)


@settings(max_examples=100)
@given(convolutions())
def test_no_more_zeros_are_read_than_the_padding_has(drawn):
    op, images = drawn
    right = expected(op, images)
    zeros = ConvWindows.of(op, images.shape, right.shape).zeros_read(phases=False)
    top, left, bottom, right_side = op.padding
    assert zeros["above"] == top
    assert zeros["left"] == left
    assert zeros["below"] <= bottom
    assert zeros["right"] <= right_side


def test_a_strided_pointwise_convolution_reads_one_phase():
    op = Conv("x", "y", np.ones((2, 3, 1, 1), np.float32), np.zeros(2, np.float32), (2, 2))
    windows = ConvWindows.of(op, (1, 3, 8, 7), (1, 2, 4, 4))
    assert windows.phases == ((0, 0),)
    assert windows.phase_size == (4, 4)
    assert windows.zeros_read() == {"above": 0, "left": 0, "below": 0, "right": 0, "past_padding": 0}
