"""Shape rules of affine maps, sums and products."""

import pytest
from tests.runtime.ir.examples import IMAGE, array
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import Add, Affine, Multiply


@pytest.mark.parametrize(("scale", "shift"), [((4,), (5,)), ((5,), (4,)), ((6,), (6,)), ((4, 1), (4, 1))])
def test_an_affine_map_has_one_scale_and_shift_for_each_channel(scale, shift):
    check(Affine("x", "y", array(4), array(4)), {"x": IMAGE, "y": IMAGE})
    wrong = Affine("x", "y", array(*scale), array(*shift))
    check_refused(wrong, {"x": IMAGE, "y": IMAGE}, "its scales do not fit its input")


def test_affine_maps_are_of_images():
    check_refused(
        Affine("x", "y", array(4), array(4)), {"x": (2, 4), "y": (2, 4)}, "its input is not an image"
    )


@pytest.mark.parametrize("other", [(1, 4, 6, 8), (2, 4, 1, 1), (2, 4, 8, 6)])
def test_sums_are_of_one_shape(other):
    check(Add("x", "z", "y"), {"x": IMAGE, "z": IMAGE, "y": IMAGE})
    check_refused(Add("x", "z", "y"), {"x": IMAGE, "z": other, "y": IMAGE}, "its inputs differ in shape")


@pytest.mark.parametrize("factor", [IMAGE, (2, 4, 1, 1)])
def test_factors_of_every_element_or_of_every_channel(factor):
    check(Multiply("x", "z", "y"), {"x": IMAGE, "z": factor, "y": IMAGE})


@pytest.mark.parametrize("factor", [(1, 4, 1, 1), (2, 1, 6, 8), (2, 4, 6, 1)])
def test_other_factors_are_refused(factor):
    shapes = {"x": IMAGE, "z": factor, "y": IMAGE}
    check_refused(Multiply("x", "z", "y"), shapes, "its factor does not fit its input")


def test_the_factor_is_on_the_right():
    shapes = {"x": (2, 4, 1, 1), "z": IMAGE, "y": IMAGE}
    check_refused(Multiply("x", "z", "y"), shapes, "its factor does not fit its input")
