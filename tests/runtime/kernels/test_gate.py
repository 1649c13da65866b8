"""Images times a factor for each channel, which are images of one pixel or vectors, against NumPy in float64."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import ACTIVATIONS, few_examples, random_images, random_values
from tests.runtime.kernels.guarded import Buffer, backwards, run
from tests.runtime.kernels.pointwise import COMMON, arguments, three_layouts

from gpmt.runtime.kernels.gate import GateKernel
from gpmt.runtime.layout.planes import Planes


@few_examples
@given(*COMMON, st.booleans())
def test_equals_numpy(lanes, side, activation, sizes, vectors):
    source, output, _ = three_layouts(*sizes)
    values = random_images(1, source)
    factors = random_values(2, source.images, source.channels, 1, 1)
    exact = torch.from_numpy(values.astype(np.float64) * factors)
    if vectors:
        factors = np.ascontiguousarray(factors.transpose(2, 1, 3, 0))
    gates = Planes(*factors.shape, factors.shape[3] + sizes[-1], 0)
    result = Buffer(output, at=side)
    spec = GateKernel(lanes, source, gates, output, activation)
    right = Buffer(gates, factors, side)
    run(spec, arguments(spec, Buffer(source, values, side), right, result, side), backwards(spec))
    result.check(ACTIVATIONS[activation](exact).float().numpy())
