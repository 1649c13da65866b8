"""Layer norm and RMS norm over the channels of planes against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, layouts, random_images, random_values
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run

from gpmt.runtime.kernels.layer_norm import LayerNormKernel
from gpmt.runtime.layout.planes import Planes


def normalised(values, weight, bias, epsilon, centred):
    values = values.astype(np.float64)
    centre = values.mean(1, keepdims=True) if centred else 0.0
    variance = np.square(values - centre).mean(1, keepdims=True)
    return (values - centre) / np.sqrt(variance + epsilon) * weight[:, None, None] + bias[:, None, None]


def check(source, output, values, lanes, side, epsilon, centred):
    weight, bias = random_values(2, source.channels), random_values(3, source.channels)
    result = Buffer(output, at=side)
    spec = LayerNormKernel(lanes, source, output, epsilon, centred)
    constants = {"weight": weight, "bias": bias, "mask": output.mask()}
    args = {"input": Buffer(source, values, side), "output": result}
    run(spec, args | {name: copied(array, side) for name, array in constants.items()}, backwards(spec))
    expected = normalised(values, weight, bias, epsilon, centred).astype(np.float32)
    result.check(expected, tolerance=5e-6 if centred else 2e-6)  # channels may be close to their mean


@few_examples
@given(LANES, SIDES, layouts(channels=7) | layouts(), st.sampled_from([1e-5, 1e-12]), st.booleans())
def test_equals_numpy(lanes, side, source, epsilon, centred):
    if source.channels < 3:
        epsilon = 0.1  # the variance of one or two channels is small, or 0
    output = Planes(source.images, source.channels, source.height, source.width, source.pitch, 5)
    check(source, output, random_images(1, source) + 3, lanes, side, epsilon, centred)


@pytest.mark.parametrize("samples", [9 * 16, 40 * 16 + 3])
def test_tiles_of_several_vectors(samples):
    vectors = Planes(1, 33, 1, samples, samples, 0)
    check(vectors, vectors, random_images(1, vectors), 16, "end", 1e-5, True)


def test_a_large_mean_cancels_nothing():
    vectors = Planes(1, 64, 1, 20, 20, 0)
    values = random_images(1, vectors) + 1000
    values = np.round(values * 64) / 64  # so that float32 holds the differences exactly
    weight, bias = np.ones(64, np.float32), np.zeros(64, np.float32)
    result = Buffer(vectors)
    spec = LayerNormKernel(16, vectors, vectors, 1e-5)
    constants = {"weight": weight, "bias": bias, "mask": vectors.mask()}
    args = {name: copied(array) for name, array in constants.items()}
    run(spec, {"input": Buffer(vectors, values), "output": result, **args})
    result.check(normalised(values, weight, bias, 1e-5, True).astype(np.float32), tolerance=1e-4)
