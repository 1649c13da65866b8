"""Shapes of tokens among constants."""

from tests.runtime.ir.examples import array
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import PlaceTokens


def test_tokens_among_constants():
    check(PlaceTokens("x", "y", array(5, 6)), {"x": (2, 5, 6), "y": (2, 5, 6)})
    check(PlaceTokens("x", "y", array(8, 6), 3), {"x": (2, 5, 6), "y": (2, 8, 6)})
    shapes = {"x": (2, 5, 6), "y": (2, 8, 6)}
    check_refused(PlaceTokens("x", "y", array(8, 6), 4), shapes, "its constant does not fit its input")
    check_refused(PlaceTokens("x", "y", array(8, 7)), shapes, "its constant does not fit its input")
    check_refused(PlaceTokens("x", "y", array(8, 6)), {"x": (2, 6), "y": (2, 6)}, "are not tokens")
