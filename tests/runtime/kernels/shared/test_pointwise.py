"""The work of pointwise kernels: split into items, and refused for planes of different pitches."""

import pytest
from tests.runtime.kernels.drawing import random_images
from tests.runtime.kernels.guarded import Buffer, backwards, run
from tests.runtime.kernels.pointwise import arguments

from gpmt.runtime.kernels.add import AddKernel
from gpmt.runtime.layout.planes import Planes


def test_large_planes_are_split():
    layout = Planes(1, 2, 250, 250, 251, 0)
    spec = AddKernel(8, layout, layout, layout)
    assert spec.items > 4
    images = random_images(0, layout)
    result, source = Buffer(layout), Buffer(layout, images)
    run(spec, arguments(spec, source, source, result), backwards(spec))
    result.check(2 * images, tolerance=0)


@pytest.mark.native_only
def test_planes_must_have_one_pitch():
    with pytest.raises(AssertionError, match=r"pitches \[5, 6\], but must have one"):
        AddKernel(8, Planes(1, 1, 4, 5, 5, 0), Planes(1, 1, 4, 5, 6, 0), Planes(1, 1, 4, 5, 5, 0))
