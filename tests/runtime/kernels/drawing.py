"""What hypothesis draws in several tests of kernels, and random values."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st

from gpmt.runtime.ir.activation import IDENTITY, RELU, RELU6, Activation
from gpmt.runtime.layout.planes import Planes

LANES = st.sampled_from([4, 8, 16])
SIDES = st.sampled_from(["start", "end"])
few_examples = settings(max_examples=12)
ACTIVATIONS = {
    IDENTITY: lambda x: x,
    RELU: F.relu,
    RELU6: F.relu6,
    Activation("clamp", 0.5, 1.0): lambda x: x.clamp(0.5, 1.0),
    Activation("silu"): F.silu,
    Activation("hardswish"): F.hardswish,
    Activation("sigmoid"): torch.sigmoid,
    Activation("tanh"): torch.tanh,
    Activation("gelu"): F.gelu,
    Activation("gelu_tanh"): lambda x: F.gelu(x, approximate="tanh"),
    Activation("leaky_relu", 0.25): lambda x: F.leaky_relu(x, 0.25),
}
"""Every kind of activation, with PyTorch's function."""


def random_values(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def random_images(seed, layout):
    """Return images [n, c, h, w] for a layout."""
    return random_values(seed, layout.images, layout.channels, layout.height, layout.width)


@st.composite
def layouts(draw, images=None, channels=None, height=None, width=None):
    """Draw a layout with any pitch and gap, of sizes that are given or drawn."""
    height, width = height or draw(st.integers(1, 40)), width or draw(st.integers(1, 40))
    pitch = width + draw(st.integers(0, 3) | st.integers(0, 20))
    images, channels = images or draw(st.integers(1, 3)), channels or draw(st.integers(1, 5))
    return Planes(images, channels, height, width, pitch, draw(st.integers(0, 70)))


def vectors(samples, features, padding=0):
    """Return the layout of vectors."""
    return Planes(1, features, 1, samples, samples + padding, padding)


def transposed(rows):
    """Return rows [n, features] as images that have the layout of vectors."""
    return np.ascontiguousarray(rows.T)[None, :, None, :]
