"""Phases of strides, for the tests of the kernels that write them: drawn cases, and the phases in NumPy."""

import numpy as np
from hypothesis import strategies as st


def phase_planes(images, stride, phases):
    """Return the phases of images [n, c · len(phases), ceil(h / sy), ceil(w / sx)]."""
    n, c, h, w = images.shape
    sy, sx = stride
    padded = np.zeros((n, c, -(-h // sy) * sy, -(-w // sx) * sx), np.float32)
    padded[:, :, :h, :w] = images
    parts = [padded[:, :, ry::sy, rx::sx] for ry, rx in phases]
    return np.stack(parts, 2).reshape(n, c * len(phases), *parts[0].shape[2:])


@st.composite
def strides(draw):
    """Draw a stride and some of its phases."""
    stride = draw(st.sampled_from([(1, 1), (2, 2), (2, 2), (2, 1), (1, 2), (3, 3), (4, 2)]))
    phases = [(y, x) for y in range(stride[0]) for x in range(stride[1])]
    chosen = draw(st.just(phases) | st.lists(st.sampled_from(phases), min_size=1, unique=True))
    return stride, tuple(chosen)
