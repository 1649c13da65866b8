"""Shape rules of pooling, and the limits of its kernels."""

import pytest
from tests.runtime.ir.examples import IMAGE
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.document import DocumentError
from gpmt.runtime.ir.operator import OPERATORS
from gpmt.runtime.ir.operators import GlobalMean, Pool
from gpmt.runtime.ir.operators.pooling import pooling_problem


@pytest.mark.parametrize(
    ("pool", "output"),
    [
        (Pool("x", "y", "max", (2, 2), (2, 2)), (2, 4, 3, 4)),
        (Pool("x", "y", "mean", (3, 3), (1, 2), (1, 1, 1, 1)), (2, 4, 6, 4)),
        (Pool("x", "y", "max", (6, 8), (50, 50)), (2, 4, 1, 1)),
    ],
)
def test_windows_of_pools(pool, output):
    check(pool, {"x": IMAGE, "y": output})
    check_refused(pool, {"x": IMAGE, "y": (*output[:3], 5)}, f"but is made with {list(output)}")


@pytest.mark.parametrize(
    ("pool", "output", "message"),
    [
        (Pool("x", "y", "max", (1, 2), (1, 9000)), (1, 1, 2, 2), "its windows are too far apart"),
        (Pool("x", "y", "mean", (1, 65), (1, 65)), (1, 1, 2, 246), "its windows have more than 64 columns"),
        (Pool("x", "y", "max", (1, 1), (1, 1), (0, 400, 0, 0)), (1, 1, 2, 16400), "more than 16384 columns"),
    ],
)
def test_pools_that_are_too_large_for_a_stack(pool, output, message):
    check_refused(pool, {"x": (1, 1, 2, 16_000), "y": output}, message)


@pytest.mark.parametrize(("kind", "count_padding"), [("max", True), ("max", False), ("mean", True)])
def test_windows_outside_of_the_image(kind, count_padding):
    """Only a mean that divides by the part of the window inside the image has nothing to divide by."""
    shapes = {"x": IMAGE, "y": (2, 4, 5, 4)}
    check(Pool("x", "y", kind, (2, 2), (2, 2), (2, 0, 2, 0), count_padding), shapes)
    outside = Pool("x", "y", "mean", (2, 2), (2, 2), (2, 0, 2, 0), False)
    check_refused(outside, shapes, "one of its windows is outside of its input")


def test_windows_that_are_too_large():
    pool = Pool("x", "y", "max", (7, 1), (1, 1))
    check_refused(pool, {"x": IMAGE, "y": (2, 4, 1, 8)}, "its window is larger than its input")


@pytest.mark.parametrize(
    ("kernel", "padding", "subsampling"),
    [((1, 1), (0, 0, 0, 0), True), ((1, 2), (0, 0, 0, 0), False), ((1, 1), (0, 0, 1, 0), False)],
)
def test_subsampling(kernel, padding, subsampling):
    assert Pool("x", "y", "max", kernel, (2, 2), padding).is_subsampling == subsampling


def test_the_limits_of_kernels_are_allowed():
    assert not pooling_problem(width=(1 << 14) - 2, outputs=100, kernel=64, stride=2, padding=2)
    # With one window, the stride does not matter.
    assert not pooling_problem(width=8, outputs=1, kernel=2, stride=1 << 20, padding=0)
    assert pooling_problem(width=8, outputs=2, kernel=2, stride=1 << 20, padding=0)


def test_kinds_of_pooling():
    read = OPERATORS[Pool].fields["kind"].decode
    assert [read(kind, "kind") for kind in ("max", "mean")] == ["max", "mean"]
    with pytest.raises(DocumentError, match="has 'min' for a kind of pooling"):
        read("min", "kind")


@pytest.mark.parametrize("output", [(2, 4), (2, 4, 1, 1)])
def test_a_global_mean_is_vectors_or_pixels(output):
    check(GlobalMean("x", "y"), {"x": IMAGE, "y": output})


@pytest.mark.parametrize("output", [(2, 6), (2, 4, 1), (2, 4, 6, 8)])
def test_other_global_means_are_refused(output):
    check_refused(GlobalMean("x", "y"), {"x": IMAGE, "y": output}, "but is made with [2, 4")
