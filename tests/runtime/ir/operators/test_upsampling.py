"""The shape rule of upsampling."""

import pytest
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import Upsample
from gpmt.runtime.ir.operators.upsampling import FACTORS


@pytest.mark.parametrize("down", FACTORS)
@pytest.mark.parametrize("across", FACTORS)
def test_rows_and_columns_are_repeated(down, across):
    check(Upsample("x", "y", (down, across)), {"x": (2, 4, 3, 5), "y": (2, 4, 3 * down, 5 * across)})


@pytest.mark.parametrize("factor", [(3, 1), (1, 8), (5, 5)])
def test_other_factors_are_refused(factor):
    shapes = {"x": (2, 4, 3, 5), "y": (2, 4, 3 * factor[0], 5 * factor[1])}
    check_refused(Upsample("x", "y", factor), shapes, "there is no kernel for its factor")


def test_down_and_across_are_not_exchanged():
    shapes = {"x": (2, 4, 3, 5), "y": (2, 4, 3, 10)}
    check_refused(Upsample("x", "y", (2, 1)), shapes, "but is made with [2, 4, 6, 5]")
