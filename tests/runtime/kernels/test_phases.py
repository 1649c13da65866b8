"""Phases of strides against NumPy."""

from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, layouts, random_images
from tests.runtime.kernels.guarded import Buffer, run
from tests.runtime.kernels.phase_planes import phase_planes, strides

from gpmt.runtime.kernels.phases import PhasesKernel


@few_examples
@given(st.data(), LANES, SIDES, strides(), st.integers(0, 2**20))
def test_equals_numpy(data, lanes, side, stride_and_phases, seed):
    stride, phases = stride_and_phases
    source = data.draw(layouts())
    images = random_images(seed, source)
    expected = phase_planes(images, stride, phases)
    output = Buffer(data.draw(layouts(*expected.shape)), at=side)
    spec = PhasesKernel(lanes, source, output.layout, stride, phases)
    run(spec, {"input": Buffer(source, images, side), "output": output})
    output.check(expected, tolerance=0)
