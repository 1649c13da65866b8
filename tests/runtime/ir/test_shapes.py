"""Windows of images and sizes in memory, as shape rules use them."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional as F

from gpmt.runtime.ir.shapes import ShapeError, check_memory, count_windows, require

SMALL = st.integers(1, 6)


def test_what_is_required():
    require(True, "never said")
    with pytest.raises(ShapeError, match=r"^its parts do not fit$"):
        require(False, "its parts do not fit")


def test_memory_is_counted_in_bytes_of_float32():
    check_memory("'x'", (1000, 2, 3), 24_000)
    with pytest.raises(
        ShapeError, match=r"^'x' would take 24,000 bytes of memory, more than the 23,999 there are$"
    ):
        check_memory("'x'", (1000, 2, 3), 23_999)


@given(
    st.tuples(SMALL, SMALL), st.tuples(SMALL, SMALL), st.tuples(SMALL, SMALL), st.tuples(*[st.integers(0, 3)] * 4)
)  # fmt: skip
def test_windows_are_those_of_pytorch(size, kernel, stride, padding):
    top, left, bottom, right = padding
    assume(size[0] + top + bottom >= kernel[0] and size[1] + left + right >= kernel[1])
    windows = F.max_pool2d(F.pad(torch.zeros(1, 1, *size), (left, right, top, bottom)), kernel, stride)
    assert count_windows((2, 3, *size), kernel, stride, padding, 1 << 20) == tuple(windows.shape[2:])


@pytest.mark.parametrize("kernel", [(7, 1), (1, 9)])
def test_windows_are_at_most_as_large_as_the_image_with_its_padding(kernel):
    with pytest.raises(ShapeError, match="its window is larger than its input"):
        count_windows((1, 1, 4, 6), kernel, (1, 1), (1, 1, 1, 1), 1 << 20)


def test_the_padding_counts_as_memory():
    assert count_windows((2, 3, 4, 6), (1, 1), (1, 1), (1, 0, 1, 0), 4 * 2 * 3 * 6 * 6) == (6, 6)
    with pytest.raises(ShapeError, match=r"^its input with padding would take 864 bytes"):
        count_windows((2, 3, 4, 6), (1, 1), (1, 1), (1, 0, 1, 0), 4 * 2 * 3 * 6 * 6 - 1)
