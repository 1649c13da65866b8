"""Loads of pixels that cross cache lines."""

import numpy as np
import pytest
from tests.runtime.machine_code.layers import code_of, count, instructions, pixel_loads

from gpmt.runtime.machine_code.instruction_stream import Shape

pytest.importorskip("capstone")


def test_a_line_is_loaded_once_for_taps_that_share_it():
    # Three taps in a row, as a window of three columns has: two lines, joined twice.
    weight = np.ones((4, 3), np.float32)
    offsets = np.array([-4, 0, 4])
    [block] = instructions("avx512", code_of("avx512", weight, offsets, Shape(29, aligned=True)))
    assert count(block, "valignd") == 2
    assert len(pixel_loads("avx512", block)) == 3  # the lines -1, 0 and 1
    [block] = instructions("avx512", code_of("avx512", weight, offsets))
    assert count(block, "valignd") == 0
