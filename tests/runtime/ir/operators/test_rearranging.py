"""Shapes of permutations, and of pixels as tokens."""

from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import Permute, PixelsToTokens, TokensToPixels


def test_permutations():
    check(Permute("x", "y", (0, 2, 1)), {"x": (2, 3, 4), "y": (2, 4, 3)})
    check_refused(Permute("x", "y", (0, 0, 1)), {"x": (2, 3, 4), "y": (2, 2, 3)}, "its order is not one of")
    check_refused(Permute("x", "y", (1, 0)), {"x": (2, 3, 4), "y": (3, 2)}, "its order is not one of")


def test_pixels():
    for tokens in ((2, 30, 3), (2, 5, 6, 3)):
        check(PixelsToTokens("x", "y"), {"x": (2, 3, 5, 6), "y": tokens})
        check(TokensToPixels("x", "y"), {"x": tokens, "y": (2, 3, 5, 6)})
    check_refused(PixelsToTokens("x", "y"), {"x": (2, 3, 5, 6), "y": (2, 3, 30)}, "but is made with")
    check_refused(
        TokensToPixels("x", "y"), {"x": (2, 30, 4), "y": (2, 3, 5, 6)}, "its tokens are not the pixels"
    )
    check_refused(PixelsToTokens("x", "y"), {"x": (2, 1, 5, 1), "y": (2, 5, 1, 1)}, "channels of its pixels")
