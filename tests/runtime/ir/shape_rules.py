"""How tests check the shape rules of operators."""

import pytest

from gpmt.runtime.ir.shapes import ShapeError
from gpmt.runtime.ir.validation import check_shapes
from gpmt.runtime.ir.values import Value


def check(operator, shapes, memory=1 << 30):
    """Check an operator with values of these shapes, by name."""
    check_shapes(operator, {name: Value(name, shape) for name, shape in shapes.items()}, memory)


def check_refused(operator, shapes, message, memory=1 << 30):
    """Check that an operator is refused with values of these shapes, with a text that has `message` in it."""
    with pytest.raises(ShapeError) as caught:
        check(operator, shapes, memory)
    assert message in str(caught.value)
