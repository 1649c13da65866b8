"""Shapes of products, softmax and attention."""

import numpy as np
import pytest
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import Attention, HeadAttention, MatMul, Softmax
from gpmt.runtime.ir.operators.attention import MAX_KEYS


def test_products():
    check(MatMul("x", "z", "y"), {"x": (2, 3, 5, 4), "z": (2, 3, 4, 6), "y": (2, 3, 5, 6)})
    for other in ((2, 3, 5, 6), (1, 3, 4, 6), (3, 4, 6)):
        shapes = {"x": (2, 3, 5, 4), "z": other, "y": (2, 3, 5, 6)}
        check_refused(MatMul("x", "z", "y"), shapes, "its inputs do not fit")


def test_softmax():
    check(Softmax("x", "y"), {"x": (2, 3), "y": (2, 3)})
    check_refused(Softmax("x", "y"), {"x": (2, 3), "y": (3, 2)}, "but is made with [2, 3]")


def test_heads():
    op = HeadAttention("x", "k", "v", "y", 1.0, "m")
    shapes = {"x": (2, 3, 5, 4), "k": (2, 3, 7, 4), "v": (2, 3, 7, 4), "m": (1, 1, 1, 7), "y": (2, 3, 5, 4)}
    check(op, shapes)
    check_refused(op, shapes | {"k": (2, 3, 7, 5)}, "its inputs do not fit")
    check_refused(op, shapes | {"m": (1, 1, 5, 6)}, "its mask does not fit")


ATTENTION = Attention("x", "k", "v", "y", 2, 1.0, (0, 2, 1), "m")
SHAPES = {"x": (2, 5, 4), "k": (2, 7, 6), "v": (2, 7, 5), "m": (2, 1, 5, 7), "y": (2, 5, 4)}


def test_attention():
    check(ATTENTION, SHAPES)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": (2, 4)}, "its inputs are not tokens"),
        ({"k": (2, 8, 6)}, "its inputs do not fit"),
        ({"x": (3, 5, 4), "y": (3, 5, 4)}, "its inputs do not fit"),
        ({"y": (2, 5, 3)}, "its heads do not divide its features"),
        ({"k": (2, 7, 5)}, "its inputs have fewer features"),
        ({"m": (2, 3, 5, 7)}, "its mask does not fit"),
        ({"m": (1, 1, 1, 6)}, "its mask does not fit"),
        ({"k": (2, MAX_KEYS + 1, 6), "v": (2, MAX_KEYS + 1, 5)}, f"it has more than {MAX_KEYS} keys"),
    ],
)
def test_what_does_not_fit_is_refused(changed, message):
    check_refused(ATTENTION, SHAPES | changed, message)


def test_biases_repeat_over_samples():
    shapes = {name: SHAPES[name] for name in ("x", "k", "v", "y")}
    for samples in (1, 2):
        bias = np.zeros((samples, 2, 1, 7), np.float32)
        check(Attention("x", "k", "v", "y", 2, 1.0, bias=bias), shapes)
    bias = np.zeros((0, 2, 1, 7), np.float32)
    check_refused(Attention("x", "k", "v", "y", 2, 1.0, bias=bias), shapes, "its mask does not fit")
