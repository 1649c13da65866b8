"""A scale and a shift for each channel against NumPy in float64."""

import numpy as np
import torch
from hypothesis import given
from tests.runtime.kernels.drawing import ACTIVATIONS, few_examples, random_images, random_values
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run
from tests.runtime.kernels.pointwise import COMMON, arguments, three_layouts

from gpmt.runtime.kernels.affine import AffineKernel


@few_examples
@given(*COMMON)
def test_equals_numpy(lanes, side, activation, sizes):
    source, output, _ = three_layouts(*sizes)
    values, scale, shift = (
        random_images(1, source), random_values(2, source.channels), random_values(3, source.channels),
    )  # fmt: skip
    exact = torch.from_numpy(values.astype(np.float64) * scale[:, None, None] + shift[:, None, None])
    result = Buffer(output, at=side)
    spec = AffineKernel(lanes, source, source, output, activation)
    constants = {"scale": copied(scale, side), "shift": copied(shift, side)}
    args = arguments(spec, Buffer(source, values, side), 0, result, side, **constants)
    run(spec, args, backwards(spec))
    result.check(ACTIVATIONS[activation](exact).float().numpy())
