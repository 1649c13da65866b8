"""Shapes of normalisations."""

from tests.runtime.ir.examples import array
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import GroupNorm, LayerNorm


def test_layer_norm():
    check(LayerNorm("x", "y", array(6), array(6), 1e-5), {"x": (2, 5, 6), "y": (2, 5, 6)})
    check(LayerNorm("x", "y", array(4), array(4), 1e-5, 1), {"x": (2, 4, 5, 6), "y": (2, 4, 5, 6)})


def test_layer_norms_that_do_not_fit():
    tokens = {"x": (2, 5, 6), "y": (2, 5, 6)}
    wrong = "its weights do not fit its input"
    check_refused(LayerNorm("x", "y", array(5), array(5), 1e-5), tokens, wrong)
    check_refused(LayerNorm("x", "y", array(5), array(5), 1e-5, 1), tokens, "its input is not an image")
    check_refused(LayerNorm("x", "y", array(6), array(6), -1.0), tokens, "its epsilon is negative")
    pixels = {"x": (2, 5, 1, 1), "y": (2, 5, 1, 1)}
    check_refused(LayerNorm("x", "y", array(1), array(1), 1e-5), pixels, "not the channels of its pixels")


def test_group_norm():
    image = {"x": (2, 6, 4, 5), "y": (2, 6, 4, 5)}
    check(GroupNorm("x", "y", array(6), array(6), 1e-5, 3), image)
    check_refused(GroupNorm("x", "y", array(6), array(6), 1e-5, 4), image, "its groups do not divide")
    check_refused(GroupNorm("x", "y", array(5), array(6), 1e-5, 3), image, "its weights do not fit")
