"""Windows of pooling, for the tests of the kernels that pool: drawn cases, and the windows in NumPy."""

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import layouts

from gpmt.runtime.layout.planes import Planes

# (kernel, stride, padding) and sizes as networks have them.
USUAL_POOLS = [(3, 2, 1), (2, 2, 0), (3, 1, 1)]
USUAL_SIZES = [112, 57]


def windows(images, kernel, stride, padding, outside, size):
    """Return all windows [n, c, height, width, kernel...] of images with `outside` around them."""
    top, left = padding[:2]
    n, c, h, w = images.shape
    height = max(top + h, (size[0] - 1) * stride[0] + kernel[0])
    width = max(left + w, (size[1] - 1) * stride[1] + kernel[1])
    padded = np.full((n, c, height, width), outside, images.dtype)
    padded[:, :, top : top + h, left : left + w] = images
    views = np.lib.stride_tricks.sliding_window_view(padded, kernel, (2, 3))
    return views[:, :, :: stride[0], :: stride[1]][:, :, : size[0], : size[1]]


@st.composite
def pools(draw):
    """Draw layouts of input and output, kernel, stride and padding; ceil_mode's larger outputs too."""
    source = draw(layouts())
    kernel = draw(st.sampled_from([(2, 2), (3, 3), (1, 3), (5, 2), (7, 7), (10, 4)]))
    stride = draw(st.sampled_from([(1, 1), (2, 2), (2, 2), (2, 1), (3, 3), (1, 2)]))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel * 2)
    size, ceil = [], draw(st.booleans())
    for i, length in enumerate((source.height, source.width)):
        room = length + padding[i] + padding[i + 2] - kernel[i]
        assume(room >= 0)
        count = room // stride[i] + 1
        # One more window if it begins inside.
        more = ceil and room % stride[i] and count * stride[i] < length + padding[i]
        size.append(count + bool(more))
    return source, draw(layouts(source.images, source.channels, *size)), kernel, stride, padding


def usual_images(size):
    """Return images [2, 3, size, size] with NaN and -inf, and their layout."""
    images = torch.randn(2, 3, size, size)
    images[0, 0, 5, 7] = torch.nan
    images[1, 2] = -torch.inf
    return images, Planes(2, 3, size, size, size + 1, size + 2)
