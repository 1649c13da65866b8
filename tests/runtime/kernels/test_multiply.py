"""The product of two images against NumPy in float64."""

import numpy as np
from hypothesis import given
from tests.runtime.kernels.drawing import few_examples
from tests.runtime.kernels.pointwise import COMMON, check_two_images

from gpmt.runtime.kernels.multiply import MultiplyKernel


@few_examples
@given(*COMMON)
def test_equals_numpy(lanes, side, activation, sizes):
    check_two_images(MultiplyKernel, np.multiply, lanes, side, activation, sizes)
