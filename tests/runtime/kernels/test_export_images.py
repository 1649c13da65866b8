"""Images out of planes against NumPy."""

import numpy as np
from hypothesis import given
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, layouts, random_images
from tests.runtime.kernels.guarded import Buffer, guarded, run

from gpmt.runtime.kernels.export_images import ExportImagesKernel


@few_examples
@given(layouts(), LANES, SIDES)
def test_equals_numpy(source, lanes, side):
    images = random_images(1, source)
    output = guarded(images.size, at=side).reshape(images.shape)
    run(ExportImagesKernel(lanes, source), {"input": Buffer(source, images, side), "output": output})
    np.testing.assert_array_equal(output, images)
