"""Gaps between planes are cleared, and nothing else; the other kernel does its items."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples
from tests.runtime.kernels.guarded import PATTERN, Buffer, backwards, copied, function, run

from gpmt.runtime.kernels.clear_gaps import ClearGapsKernel
from gpmt.runtime.layout.planes import Planes

# A kernel that adds 1 to the element of the item; its arguments are the elements.
COUNT = """
define void @kernel(ptr %counts, i64 %item) {
  %at = getelementptr i64, ptr %counts, i64 %item
  %before = load i64, ptr %at, align 8
  %after = add i64 %before, 1
  store i64 %after, ptr %at, align 8
  ret void
}
"""


@few_examples
@given(
    LANES, SIDES, st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 20), st.integers(0, 3),
    st.integers(1, 70), st.integers(1, 12),
)  # fmt: skip
def test_the_gaps_are_zero_afterwards(lanes, side, images, channels, height, width, padding, gap, items):
    planes = Planes(images, channels, height, width, width + padding, gap)
    buffer, counts = Buffer(planes, at=side), copied(np.zeros(items, np.int64), side)
    spec = ClearGapsKernel(lanes, planes, items)
    given = {
        "function": function(COUNT), "arguments": counts, "planes": buffer, "sizes": copied(spec.sizes(), side),
    }  # fmt: skip
    run(spec, given, backwards(spec))
    assert (counts == 1).all()
    end = planes.origin + planes.images * planes.image_stride
    assert (buffer.elements[: planes.origin] == 0).all()
    inside = buffer.elements[planes.origin : end].reshape(-1, planes.plane_stride)
    assert (inside[:, : planes.extent] == PATTERN).all()
    assert (inside[:, planes.extent :] == 0).all()
    assert (buffer.elements[end:] == PATTERN).all()
