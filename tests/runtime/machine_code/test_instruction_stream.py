"""Which instructions there are between the start and the end of a block."""

import numpy as np
import pytest
from tests.runtime.machine_code.layers import code_of, count, drawn, instructions

from gpmt.runtime.machine_code.instruction_stream import Shape

pytest.importorskip("capstone")


def test_a_line_is_loaded_once_for_taps_that_share_it():
    # Three taps in a row, as a window of three columns has: two lines, joined twice.
    weight = np.ones((4, 3), np.float32)
    offsets = np.array([-4, 0, 4])
    [block] = instructions(code_of(weight, offsets, Shape(29, aligned=True)))
    loads = [operands for name, operands in block if name == "vmovups" and "rdi" in operands]
    assert count(block, "valignd") == 2
    assert len(loads) == 3  # the lines -1, 0 and 1
    [block] = instructions(code_of(weight, offsets))
    assert count(block, "valignd") == 0


def test_the_next_block_is_prefetched_in_parts():
    weight = drawn(62, 500, 0.2)
    code = code_of(weight, 4096 * np.arange(500), Shape(prefetched_over=10))
    for block, other in zip(instructions(code), code.blocks[0][::-1], strict=True):
        assert abs(count(block, "prefetcht1") - other[2] / 64 / 10) < 3
    assert all(count(b, "prefetcht1") == 0 for b in instructions(code_of(weight, 4096 * np.arange(500))))
