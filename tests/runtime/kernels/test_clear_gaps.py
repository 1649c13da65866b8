"""Gaps between planes are cleared, and nothing else; the other kernel does its items."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.codegen.counting import count_up
from tests.runtime.kernels.drawing import LANES, SIDES, few_examples
from tests.runtime.kernels.guarded import PATTERN, Buffer, backwards, copied, run

from gpmt.runtime.codegen import jit
from gpmt.runtime.codegen.emitter import Emitter
from gpmt.runtime.kernels.clear_gaps import ClearGapsKernel
from gpmt.runtime.layout.planes import Planes

pytestmark = pytest.mark.native_only  # the other kernel is in the memory of this process


def counting_kernel():
    """Return the address of a kernel that adds 1 to the element of the item."""
    e = Emitter(4, ["counts"])
    count_up(e, e.item)
    return jit.load(e.text())


@few_examples
@given(
    LANES, SIDES, st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 20), st.integers(0, 3),
    st.integers(1, 70), st.integers(1, 12),
)  # fmt: skip
def test_the_gaps_are_zero_afterwards(lanes, side, images, channels, height, width, padding, gap, items):
    planes = Planes(images, channels, height, width, width + padding, gap)
    buffer, counts = Buffer(planes, at=side), np.zeros(items, np.int64)
    arguments = np.array([counts.ctypes.data], np.int64)
    spec = ClearGapsKernel(lanes, planes, items)
    given = {
        "function": counting_kernel(), "arguments": arguments, "planes": buffer, "sizes": copied(spec.sizes(), side),
    }  # fmt: skip
    run(spec, given, backwards(spec))
    assert (counts == 1).all()
    end = planes.origin + planes.images * planes.image_stride
    assert (buffer.elements[: planes.origin] == 0).all()
    inside = buffer.elements[planes.origin : end].reshape(-1, planes.plane_stride)
    assert (inside[:, : planes.extent] == PATTERN).all()
    assert (inside[:, planes.extent :] == 0).all()
    assert (buffer.elements[end:] == PATTERN).all()
