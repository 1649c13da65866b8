"""The product of two images against NumPy in float64."""

import numpy as np
import torch
from hypothesis import given
from tests.runtime.kernels.drawing import ACTIVATIONS, few_examples, random_images
from tests.runtime.kernels.guarded import Buffer, run
from tests.runtime.kernels.pointwise import COMMON, arguments, three_layouts

from gpmt.runtime.kernels.multiply import MultiplyKernel


@few_examples
@given(*COMMON)
def test_equals_numpy(lanes, side, activation, sizes):
    left, right, output = three_layouts(*sizes)
    one, other = random_images(1, left), random_images(2, right)
    exact = torch.from_numpy(np.multiply(one.astype(np.float64), other))
    result = Buffer(output, at=side)
    spec = MultiplyKernel(lanes, left, right, output, activation)
    run(spec, arguments(spec, Buffer(left, one, side), Buffer(right, other, side), result, side))
    result.check(ACTIVATIONS[activation](exact).float().numpy())
