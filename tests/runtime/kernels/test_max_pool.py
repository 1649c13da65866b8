"""Max pooling against NumPy and PyTorch."""

import numpy as np
import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_images
from tests.runtime.kernels.guarded import Buffer, backwards, run
from tests.runtime.kernels.pooling import USUAL_POOLS, USUAL_SIZES, pools, usual_images, windows

from gpmt.runtime.kernels.max_pool import MaxPoolKernel
from gpmt.runtime.layout.planes import Planes


@few_examples
@given(pools(), LANES, SIDES, st.booleans())
def test_equals_numpy(pool, lanes, side, special):
    source, output, kernel, stride, padding = pool
    images = random_images(0, source)
    if special:
        odd = np.random.default_rng(0).choice(
            [np.nan, -np.nan, np.inf, -np.inf, 0, 1], images.shape, p=[0.02] * 4 + [0.9, 0.02]
        )
        images = np.where(odd == 0, images, odd).astype(np.float32)
    expected = windows(images, kernel, stride, padding, -np.inf, (output.height, output.width)).max((4, 5))
    result = Buffer(output, at=side)
    spec = MaxPoolKernel(lanes, source, output, kernel, stride, padding)
    run(spec, {"input": Buffer(source, images, side), "output": result})
    result.check(expected, tolerance=0)


@pytest.mark.parametrize(("kernel", "stride", "padding"), USUAL_POOLS)
@pytest.mark.parametrize("size", USUAL_SIZES)
def test_usual_pools_equal_pytorch(kernel, stride, padding, size):
    images, source = usual_images(size)
    expected = F.max_pool2d(images, kernel, stride, padding).numpy()
    side = expected.shape[2]
    output = Buffer(Planes(2, 3, side, side, side + 1, 60))
    spec = MaxPoolKernel(8, source, output.layout, (kernel,) * 2, (stride,) * 2, (padding,) * 4)
    assert size < 112 or spec.items > 2
    run(spec, {"input": Buffer(source, images.numpy()), "output": output}, backwards(spec))
    output.check(expected, tolerance=0)
