"""Shapes and types of lookups."""

import pytest
import torch
from tests.runtime.ir.examples import array

from gpmt.runtime.ir.operators import Embedding
from gpmt.runtime.ir.shapes import ShapeError
from gpmt.runtime.ir.validation import check_shapes
from gpmt.runtime.ir.values import Value


def check(shape, dtype, output):
    values = {"x": Value("x", shape, dtype), "y": Value("y", output)}
    check_shapes(Embedding("x", "y", array(7, 6)), values, 1 << 20)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_integers(dtype):
    check((2, 5), dtype, (2, 5, 6))


def test_other_types_and_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"'x' is torch.float32 \[2, 5\]"):
        check((2, 5), torch.float32, (2, 5, 6))
    with pytest.raises(ShapeError, match="but is made with"):
        check((2, 5), torch.int64, (2, 5, 7))
