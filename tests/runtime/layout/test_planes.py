"""The layout of images: every pixel at an index of its own, planes apart, masks and views."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpmt.runtime.layout.planes import CACHE_LINE, OVERREAD, Planes


@st.composite
def planes(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    pitch, gap = width + draw(st.integers(0, 5)), draw(st.integers(0, 60))
    return Planes(draw(st.integers(1, 3)), draw(st.integers(1, 5)), height, width, pitch, gap)


def indices(layout):
    """Return the index of every pixel, [images, channels, height, width]."""
    shape = layout.images, layout.channels, layout.height, layout.width
    return np.fromfunction(np.vectorize(layout.offset, otypes=[int]), shape, dtype=int)


@given(planes())
def test_every_pixel_has_an_index_of_its_own(layout):
    found = indices(layout)
    assert len(np.unique(found)) == found.size
    assert found.min() == layout.origin >= layout.gap
    assert found.max() < layout.size - OVERREAD
    assert (found[:, :, 0, 0] % CACHE_LINE == 0).all()
    assert layout.plane_stride // CACHE_LINE % 2 == 1


@given(planes())
def test_neighbouring_planes_are_a_gap_apart(layout):
    found = indices(layout)
    first, last = found[:, :, 0, 0].ravel(), found[:, :, -1, -1].ravel()
    assert (first[1:] - last[:-1] > layout.gap).all()
    assert layout.origin + layout.images * layout.image_stride - last[-1] > layout.gap


@given(planes(), st.integers(0, 30))
def test_the_mask_is_where_pixels_are(layout, more):
    length = layout.extent + more
    expected = np.zeros(length, np.int32)
    expected[(indices(layout)[0, 0] - layout.origin).ravel()] = -1
    np.testing.assert_array_equal(layout.mask(length), expected)


@given(planes())
def test_the_view_shows_the_pixels(layout):
    buffer = np.arange(layout.size, dtype=np.float32)
    view = layout.view(buffer)
    np.testing.assert_array_equal(view, indices(layout))
    assert np.shares_memory(view, buffer)


def test_a_mask_covers_whole_cache_lines():
    planes = Planes(1, 1, 3, 5, 7, 0)
    assert planes.mask().shape == (2 * CACHE_LINE,)
    assert planes.mask().sum() == -15
