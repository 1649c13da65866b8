"""Layers for tests of candidates and of measuring them."""

import numpy as np

from gpmt.runtime.ir.activation import IDENTITY
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.layout.taps import Taps
from gpmt.runtime.lowering.candidates import Layer


def matrix_layer(source, output, density=1.0, activation=IDENTITY):
    """Return a layer of 1×1 windows between planes, with random weights."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((output.channels, source.channels)).astype(np.float32)
    weight *= rng.random(weight.shape) < density
    bias = rng.standard_normal(output.channels).astype(np.float32)
    channels = np.arange(source.channels, dtype=np.int64)
    return Layer(
        weight, bias, Taps(channels * source.plane_bytes, channels, None), source, output, None, activation
    )


def linear_layer(samples, features, filters, density=1.0, activation=IDENTITY):
    """Return a linear layer, with random weights."""
    source, output = (Planes(1, count, 1, samples, samples, 0) for count in (features, filters))
    return matrix_layer(source, output, density, activation)
