"""Where pixels lie: no two in one place, zeros where windows reach beyond a plane."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.runtime.layout.planes import LINE, OVERRUN, Grids, Planes

REACH = st.fixed_dictionaries({side: st.integers(0, 5) for side in ("above", "left", "below", "right")})


@st.composite
def planes(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    pitch, gap = width + draw(st.integers(0, 5)), draw(st.integers(0, 60))
    return Planes(draw(st.integers(1, 3)), draw(st.integers(1, 5)), height, width, pitch, gap)


def places(layout):
    """Return the place of every pixel, [images, channels, height, width]."""
    shape = layout.images, layout.channels, layout.height, layout.width
    return np.fromfunction(np.vectorize(layout.offset, otypes=[int]), shape, dtype=int)


@given(planes())
def test_every_pixel_has_a_place_of_its_own(layout):
    found = places(layout)
    assert len(np.unique(found)) == found.size
    assert found.min() == layout.front >= layout.gap
    assert found.max() < layout.size - OVERRUN
    assert (found[:, :, 0, 0] % LINE == 0).all()
    assert layout.plane // LINE % 2 == 1


@given(planes())
def test_neighbours_have_their_gap(layout):
    found = places(layout)
    first, last = found[:, :, 0, 0].ravel(), found[:, :, -1, -1].ravel()
    assert (first[1:] - last[:-1] > layout.gap).all()
    assert layout.front + layout.images * layout.image - last[-1] > layout.gap


@given(planes(), st.integers(0, 30))
def test_the_mask_is_where_pixels_are(layout, more):
    length = layout.cover + more
    expected = np.zeros(length, np.int32)
    expected[(places(layout)[0, 0] - layout.front).ravel()] = -1
    np.testing.assert_array_equal(layout.mask(length), expected)


@given(planes())
def test_the_view_shows_the_pixels(layout):
    buffer = np.arange(layout.size, dtype=np.float32)
    view = layout.view(buffer)
    np.testing.assert_array_equal(view, places(layout))
    assert np.shares_memory(view, buffer)


@settings(max_examples=60)
@given(
    st.integers(1, 7), st.integers(1, 20), st.integers(1, 3), REACH, REACH, st.integers(1, 30), st.booleans()
)
def test_what_is_asked_for_is_zero(height, width, channels, one, two, other_width, joined):
    """A window reads at a constant distance what an image with zeros around it has there."""
    grids = Grids()
    grids.add("x", 2, channels, height, width)
    grids.add("y", 2, 3, height, other_width)
    grids.need("x", **one)
    if joined:
        grids.join("y", "x")
    grids.need("x", **two)
    layouts = grids.solve()
    layout = layouts["x"]
    if joined:
        assert layouts["y"].pitch == layout.pitch >= max(width, other_width)
    numbers = np.full(layout.size, np.nan, np.float32)
    numbers[: layout.front + layout.images * layout.image] = 0.0
    pixels = np.random.default_rng(0).random((2, channels, height, width), np.float32)
    layout.view(numbers)[...] = pixels
    reach = {side: max(one[side], two[side]) for side in one}
    around = ((0, 0), (0, 0), (reach["above"], reach["below"]), (reach["left"], reach["right"]))
    padded = np.pad(pixels, around)
    found = places(layout)
    for dy in range(-reach["above"], reach["below"] + 1):
        for dx in range(-reach["left"], reach["right"] + 1):
            read = numbers[found + dy * layout.pitch + dx]
            y, x = reach["above"] + dy, reach["left"] + dx
            np.testing.assert_array_equal(read, padded[:, :, y : y + height, x : x + width])


def test_joining_is_symmetric_and_goes_on():
    grids = Grids()
    for name, width in (("a", 3), ("b", 5), ("c", 9), ("d", 4)):
        grids.add(name, 1, 1, 2, width)
    grids.join("a", "b")
    grids.join("c", "b")
    grids.need("a", above=0, left=2, below=0, right=1)
    layouts = grids.solve()
    assert [layouts[name].pitch for name in "abcd"] == [9, 9, 9, 4]
