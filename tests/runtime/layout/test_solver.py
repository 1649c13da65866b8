"""The layouts of several buffers: zeros where kernels need them, and equal pitches where they share one offset."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.runtime.layout.solver import LayoutSolver

REACH = st.fixed_dictionaries({side: st.integers(0, 5) for side in ("above", "left", "below", "right")})


@settings(max_examples=60)
@given(
    st.integers(1, 7), st.integers(1, 20), st.integers(1, 3), REACH, REACH, st.integers(1, 30), st.booleans()
)
def test_zeros_are_where_kernels_need_them(height, width, channels, one, two, other_width, joined):
    """A window reads at a constant distance what an image with zeros around it has there."""
    solver = LayoutSolver()
    solver.add("x", 2, channels, height, width)
    solver.add("y", 2, 3, height, other_width)
    solver.need_zeros("x", **one)
    if joined:
        solver.share_pitch("y", "x")
    solver.need_zeros("x", **two)
    layouts = solver.solve()
    layout = layouts["x"]
    if joined:
        assert layouts["y"].pitch == layout.pitch >= max(width, other_width)
    buffer = np.full(layout.size, np.nan, np.float32)
    buffer[: layout.origin + layout.images * layout.image_stride] = 0.0
    images = np.random.default_rng(0).random((2, channels, height, width), np.float32)
    layout.view(buffer)[...] = images
    reach = {side: max(one[side], two[side]) for side in one}
    around = ((0, 0), (0, 0), (reach["above"], reach["below"]), (reach["left"], reach["right"]))
    padded = np.pad(images, around)
    # Every pixel's index in the buffer.
    indices = np.arange(layout.size).astype(np.float32)
    indices = layout.view(indices).astype(int)
    for dy in range(-reach["above"], reach["below"] + 1):
        for dx in range(-reach["left"], reach["right"] + 1):
            read = buffer[indices + dy * layout.pitch + dx]
            y, x = reach["above"] + dy, reach["left"] + dx
            np.testing.assert_array_equal(read, padded[:, :, y : y + height, x : x + width])


def test_sharing_a_pitch_is_symmetric_and_transitive():
    solver = LayoutSolver()
    for name, width in (("a", 3), ("b", 5), ("c", 9), ("d", 4)):
        solver.add(name, 1, 1, 2, width)
    solver.share_pitch("a", "b")
    solver.share_pitch("c", "b")
    solver.need_zeros("a", above=0, left=2, below=0, right=1)
    layouts = solver.solve()
    assert [layouts[name].pitch for name in "abcd"] == [9, 9, 9, 4]
