"""Group norm against PyTorch in float64."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, layouts, random_images, random_values
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run
from torch.nn import functional as F

from gpmt.runtime.kernels.group_norm import GroupNormKernel
from gpmt.runtime.layout.planes import Planes


@few_examples
@given(LANES, SIDES, layouts(channels=6), st.sampled_from([1, 2, 3, 6]))
def test_equals_pytorch(lanes, side, source, groups):
    output = Planes(source.images, 6, source.height, source.width, source.pitch, 5)
    values = random_images(1, source) * 2 + 1
    weight, bias = random_values(2, 6), random_values(3, 6)
    result = Buffer(output, at=side)
    spec = GroupNormKernel(lanes, source, output, groups, 1e-2)
    constants = {"weight": weight, "bias": bias, "mask": output.mask()}
    args = {"input": Buffer(source, values, side), "output": result}
    run(spec, args | {name: copied(array, side) for name, array in constants.items()}, backwards(spec))
    exact = F.group_norm(*(torch.from_numpy(values).double(), groups), *map(_double, (weight, bias)), 1e-2)
    result.check(exact.float().numpy(), tolerance=2e-6)


def _double(array):
    return torch.from_numpy(np.asarray(array)).double()
