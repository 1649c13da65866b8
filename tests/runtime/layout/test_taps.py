"""Windows as shifted planes against PyTorch's convolution in float64."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.runtime.ir.graph import Conv
from gpmt.runtime.layout.planes import LINE, OVERRUN, Grids
from gpmt.runtime.layout.taps import Windows

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
    grids = Grids()
    grids.add("x", len(images), images.shape[1] * len(phases), *windows.phase_size)
    grids.add("y", *output.shape)
    grids.join("x", "y")
    grids.need("x", **windows.needs())
    layouts = grids.solve()
    layout = layouts["x"]
    numbers = np.full(layout.size, np.nan)
    numbers[layout.front - layout.gap : layout.front + layout.images * layout.image] = 0.0
    pixels = np.zeros((layout.images, layout.channels, layout.height, layout.width))
    for i, (row, column) in enumerate(phases):
        part = images[:, :, row::sy, column::sx]
        pixels[:, i :: len(phases), : part.shape[2], : part.shape[3]] = part
    start = layout.front + np.arange(layout.images)[:, None] * layout.image
    for c in range(layout.channels):
        for y in range(layout.height):
            place = start + c * layout.plane + y * layout.pitch + np.arange(layout.width)
            numbers[place] = pixels[:, c, y]
    return layouts, numbers


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_taps_read_what_a_convolution_reads(drawn):
    op, images = drawn
    right = expected(op, images)
    windows = Windows.of(op, images.shape, right.shape)
    layouts, numbers = laid_out(images, windows, right)
    weight, place = windows.taps(op.weight)
    offsets, channel, shift = place(layouts["x"])
    source, output = layouts["x"], layouts["y"]
    assert weight.shape == (len(op.weight), len(offsets)) == (len(op.weight), len(channel))
    assert (np.diff(channel) >= 0).all()
    assert source.pitch == output.pitch
    assert not (offsets % 4).any()
    # Kernels also go through the pads behind the last row.
    end = source.front + (len(images) - 1) * source.image + -(-output.cover // LINE) * LINE
    assert end + (offsets.max() + (0 if shift is None else shift.max())) // 4 <= source.size - OVERRUN + LINE
    ys, xs = np.arange(right.shape[2])[:, None], np.arange(right.shape[3])
    pixels = source.front + ys * output.pitch + xs
    for n in range(len(images)):
        for f in range(len(op.weight)):
            more = 0 if shift is None else shift[f]
            read = numbers[n * source.image + pixels + (offsets[:, None, None] + more) // 4]
            found = np.tensordot(weight[f].astype(np.float64), read, 1)
            np.testing.assert_allclose(found, right[n, f], atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(convolutions())
def test_needs_are_no_more_than_the_padding_of_the_input(drawn):
    op, images = drawn
    right = expected(op, images)
    needs = Windows.of(op, images.shape, right.shape).needs(phases=False)
    top, left, bottom, right_side = op.padding
    assert needs["above"] == top
    assert needs["left"] == left
    assert needs["below"] <= bottom
    assert needs["right"] <= right_side


def test_a_strided_pointwise_convolution_reads_one_phase():
    op = Conv("x", "y", np.ones((2, 3, 1, 1), np.float32), np.zeros(2, np.float32), (2, 2))
    windows = Windows.of(op, (1, 3, 8, 7), (1, 2, 4, 4))
    assert windows.phases == ((0, 0),)
    assert windows.phase_size == (4, 4)
    assert windows.needs() == {"above": 0, "left": 0, "below": 0, "right": 0, "past": 0}
