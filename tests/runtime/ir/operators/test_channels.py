"""Shape rules of concatenations and slices of channels."""

import pytest
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import Concat, Slice

CONCAT = Concat(("x", "z"), "y")


def test_a_concatenation_has_the_channels_of_all_parts():
    check(CONCAT, {"x": (2, 3, 6, 8), "z": (2, 5, 6, 8), "y": (2, 8, 6, 8)})
    check(Concat(("x", "x", "x"), "y"), {"x": (2, 3, 6, 8), "y": (2, 9, 6, 8)})


@pytest.mark.parametrize("other", [(1, 5, 6, 8), (2, 5, 7, 8), (2, 5, 6, 9)])
def test_parts_differ_in_channels_only(other):
    check_refused(CONCAT, {"x": (2, 3, 6, 8), "z": other, "y": (2, 8, 6, 8)}, "its parts do not fit together")


def test_a_concatenation_with_other_channels_is_refused():
    shapes = {"x": (2, 3, 6, 8), "z": (2, 5, 6, 8), "y": (2, 7, 6, 8)}
    check_refused(CONCAT, shapes, "'y' has the shape [2, 7, 6, 8], but is made with [2, 8, 6, 8]")


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 4), (3, 1), (1, 3)])
def test_slices_within_the_channels(first, count):
    check(Slice("x", "y", first), {"x": (2, 4, 6, 8), "y": (2, count, 6, 8)})


@pytest.mark.parametrize(("first", "output"), [(1, (2, 4, 6, 8)), (4, (2, 1, 6, 8))])
def test_slices_beyond_the_channels_are_refused(first, output):
    check_refused(Slice("x", "y", first), {"x": (2, 4, 6, 8), "y": output}, "its input has fewer channels")


def test_slices_have_the_dimensions_of_their_input():
    check(Slice("x", "y", 2, 3), {"x": (2, 4, 6, 8), "y": (2, 4, 6, 5)})
    check_refused(Slice("x", "y", 0), {"x": (2, 4, 6, 8), "y": (2, 4)}, "its output has other dimensions")
    check_refused(Slice("x", "y", 0, 2), {"x": (2, 4), "y": (2, 4)}, "its output has other dimensions")


def test_concatenations_of_features():
    check(Concat(("x", "z"), "y", -1), {"x": (2, 7, 3), "z": (2, 7, 5), "y": (2, 7, 8)})
    check_refused(Concat(("x", "x"), "y"), {"x": (2, 3), "y": (2, 6)}, "its input is not an image")
    shapes = {"x": (2, 3, 1, 1), "y": (2, 3, 1, 1)}
    check_refused(Concat(("x",), "y", -1), shapes, "its features are not the channels of its pixels")
