"""Addresses of pixels and of weights, and the registers that a function has to preserve."""

import numpy as np
import pytest
from tests.runtime.machine_code.layers import code_of, count, drawn, instructions, pixel_loads

from gpmt.runtime.machine_code.instruction_stream import Shape
from gpmt.runtime.machine_code.neon_blocks import most_filters

pytest.importorskip("capstone")


def windows(block):
    """Return the moves of windows: numbers that are set and, shifted, added to an address of the input."""
    shifted = [o for name, o in block if name == "add" and o.endswith("lsl #15")]
    return shifted, [o for name, o in block if name == "mov" and o.startswith("x8")]


def test_a_window_is_moved_when_a_tap_is_outside():
    offsets = np.array([-32768, -4, 0, 16, 32752, 32768, 32772, 131072])
    [block] = instructions("neon", code_of("neon", np.ones((3, 8), np.float32), offsets))
    moved, numbers = windows(block)
    # -4 is read from the address 12 bytes further; 0, 16 and 32752 share a window, as do none of the others.
    assert [m.split(", ")[:2] for m in moved] == [
        ["x12", "x0"], ["x15", "x11"], ["x12", "x0"], ["x12", "x0"], ["x13", "x9"], ["x12", "x0"],
    ]  # fmt: skip
    assert [n.split("#")[1] for n in numbers][:6] == ["-1", "-1", "0", "1", "1", "4"]
    assert len(pixel_loads("neon", block)) == 8


def test_weights_are_loaded_in_fours_and_pages():
    weight = np.ones((30, 600), np.float32)
    [block] = instructions("neon", code_of("neon", weight, 64 * np.arange(600)))
    weights = [operands for name, operands in block if name == "ldr" and "[x7" in operands]
    assert len(weights) == 30 * 600 / 4
    assert count(block, "fmla") == 30 * 600
    assert [o for name, o in block if name == "add" and o.startswith("x7, x7")] == ["x7, x7, #0x10, lsl #12"]


@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_all_registers_are_used_once(vectors):
    filters = most_filters(vectors)
    shape = Shape(filters, vectors=vectors)
    [block] = instructions("neon", code_of("neon", drawn(filters, 50, 0.5), 64 * np.arange(50), shape))
    adds = [o.replace(".4s", "").split(", ") for name, o in block if name == "fmla"]
    sums, pixels = {a[0] for a in adds}, {a[1] for a in adds}
    weights = {a[2].partition(".")[0] for a in adds}
    assert (len(sums), len(pixels), len(weights)) == (filters * vectors, vectors, 1)
    assert len(sums | pixels | weights) == filters * vectors + vectors + 1 <= 32


def test_what_a_function_has_to_preserve_is_restored():
    [block] = instructions("neon", code_of("neon", drawn(30, 50, 0.5), 64 * np.arange(50)))
    saved = [operands for name, operands in block if name == "stp"]
    assert saved == [operands for name, operands in block if name == "ldp"]
    assert [s.split(", [")[0] for s in saved] == ["d8, d9", "d10, d11", "d12, d13", "d14, d15"]
    general = {word.strip(",[]") for _, operands in block for word in operands.split()}
    assert not general & {f"x{n}" for n in range(16, 31)}
