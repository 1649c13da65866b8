"""Mean pooling against NumPy and PyTorch."""

import numpy as np
import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_images
from tests.runtime.kernels.guarded import Buffer, backwards, copied, run
from tests.runtime.kernels.pooling import USUAL_POOLS, USUAL_SIZES, pools, usual_images, windows

from gpmt.runtime.kernels.mean_pool import MeanPoolKernel
from gpmt.runtime.layout.planes import Planes


@few_examples
@given(pools(), LANES, SIDES, st.booleans())
def test_equals_numpy(pool, lanes, side, count_padding):
    source, output, kernel, stride, padding = pool
    images = random_images(0, source)
    size = output.height, output.width
    sums = windows(images.astype(np.float64), kernel, stride, padding, 0, size).sum((4, 5))
    inside = windows(np.ones_like(images), kernel, stride, padding, 0, size).sum((4, 5))
    expected = (sums / (kernel[0] * kernel[1] if count_padding else inside)).astype(np.float32)
    result = Buffer(output, at=side)
    spec = MeanPoolKernel(lanes, source, output, kernel, stride, padding, count_padding)
    scales = copied(spec.scales(), side)
    run(spec, {"input": Buffer(source, images, side), "output": result, "scales": scales})
    result.check(expected, tolerance=2e-6)


@pytest.mark.parametrize(("kernel", "stride", "padding"), USUAL_POOLS)
@pytest.mark.parametrize("size", USUAL_SIZES)
def test_usual_pools_equal_pytorch(kernel, stride, padding, size):
    images, source = usual_images(size)
    expected = F.avg_pool2d(images, kernel, stride, padding).numpy()
    side = expected.shape[2]
    output = Buffer(Planes(2, 3, side, side, side + 1, 60))
    spec = MeanPoolKernel(8, source, output.layout, (kernel,) * 2, (stride,) * 2, (padding,) * 4)
    args = {"input": Buffer(source, images.numpy()), "output": output, "scales": copied(spec.scales())}
    run(spec, args, backwards(spec))
    output.check(expected, tolerance=2e-6)
