"""The shape rule of linear layers."""

import pytest
from tests.runtime.ir.examples import array
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import Linear

LINEAR = Linear("x", "y", array(3, 8), array(3))


@pytest.mark.parametrize("batch", [(2,), (2, 5), (2, 4, 6), (1, 2, 3, 4)])
def test_inputs_of_any_number_of_dimensions(batch):
    check(LINEAR, {"x": (*batch, 8), "y": (*batch, 3)})


@pytest.mark.parametrize(
    ("linear", "source"),
    [
        (LINEAR, (2, 7)),
        (LINEAR, (8, 2)),
        (LINEAR, (8,)),
        (Linear("x", "y", array(3, 8), array(8)), (2, 8)),
        (Linear("x", "y", array(3, 8), array(3, 1)), (2, 8)),
        (Linear("x", "y", array(3, 8, 1), array(3)), (2, 8)),
    ],
)
def test_weights_that_do_not_fit(linear, source):
    check_refused(linear, {"x": source, "y": (2, 3)}, "its weights do not fit its input")


def test_another_output_is_refused():
    shapes = {"x": (2, 8), "y": (2, 1, 3)}
    check_refused(LINEAR, shapes, "'y' has the shape [2, 1, 3], but is made with [2, 3]")
