"""The shape rule of reshapes."""

import pytest
from tests.runtime.ir.examples import IMAGE
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import Reshape


@pytest.mark.parametrize("shape", [(384,), (2, 192), (2, 4, 48), (1, 8, 6, 8), IMAGE])
def test_reshapes_of_as_many_elements(shape):
    check(Reshape("x", "y"), {"x": IMAGE, "y": shape})
    check(Reshape("x", "y"), {"x": shape, "y": IMAGE})


@pytest.mark.parametrize("shape", [(2, 191), (2, 4, 6, 9)])
def test_reshapes_keep_the_number_of_elements(shape):
    check_refused(Reshape("x", "y"), {"x": IMAGE, "y": shape}, "it changes the number of elements")
