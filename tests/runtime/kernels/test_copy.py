"""Copies of channels, to a range of channels and from one."""

from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples, random_images
from tests.runtime.kernels.guarded import Buffer, backwards, run
from tests.runtime.kernels.pointwise import SIZES, arguments, three_layouts

from gpmt.runtime.kernels.copy import CopyKernel
from gpmt.runtime.layout.planes import Planes

AROUND = st.tuples(st.integers(0, 2), st.integers(0, 2))
"""Channels before and behind the range."""


def with_range(layout, before, behind):
    channels = before + layout.channels + behind
    return Planes(layout.images, channels, layout.height, layout.width, layout.pitch, 17)


@few_examples
@given(LANES, SIDES, SIZES, AROUND)
def test_to_a_range_of_channels(lanes, side, sizes, around):
    source, *_ = three_layouts(*sizes)
    output = Buffer(with_range(source, *around), at=side)
    values, first = random_images(2, source), around[0]
    spec = CopyKernel(lanes, source, source, output.layout)
    run(spec, arguments(spec, Buffer(source, values, side), 0, output.channel(first), side))
    output.check(values, slice(first, first + source.channels), tolerance=0)


@few_examples
@given(LANES, SIDES, SIZES, AROUND)
def test_from_a_range_of_channels(lanes, side, sizes, around):
    output, *_ = three_layouts(*sizes)
    layout = with_range(output, *around)
    values, first = random_images(2, layout), around[0]
    source, result = Buffer(layout, values, side), Buffer(output, at=side)
    spec = CopyKernel(lanes, layout, layout, output)
    run(spec, arguments(spec, source.channel(first), 0, result, side), backwards(spec))
    result.check(values[:, first : first + output.channels], tolerance=0)
