"""The shape rule of convolutions, and which of them are depthwise."""

from dataclasses import replace

import pytest
from tests.runtime.ir.examples import EXAMPLES, array
from tests.runtime.ir.shape_rules import check, check_refused

from gpmt.runtime.ir.operators import Conv

CONV, SHAPES = EXAMPLES[Conv]
WEIGHTS = "its weights do not fit its input"


@pytest.mark.parametrize(
    ("weight", "groups", "depthwise"),
    [
        ((4, 1, 3, 3), 4, True),
        ((4, 1, 1, 1), 4, True),
        # Two filters for each channel, two channels for each filter, and one channel in all.
        ((8, 1, 3, 3), 4, False),
        ((4, 2, 3, 3), 2, False),
        ((1, 1, 3, 3), 1, False),
    ],
)
def test_depthwise(weight, groups, depthwise):
    assert Conv("x", "y", array(*weight), array(weight[0]), groups=groups).depthwise == depthwise


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight": array(6, 2, 3)}, WEIGHTS),
        ({"weight": array(6, 2, 0, 2)}, WEIGHTS),
        ({"weight": array(6, 3, 3, 2)}, WEIGHTS),
        ({"weight": array(5, 2, 3, 2), "bias": array(5)}, WEIGHTS),
        ({"groups": 4}, WEIGHTS),
        ({"bias": array(5)}, WEIGHTS),
        ({"bias": array(6, 1)}, WEIGHTS),
        ({"residual": "x"}, "what it adds is of another shape"),
        ({"dilation": (1, 9)}, "its window is larger than its input"),
        ({"stride": (1, 1)}, "'y' has the shape [2, 6, 4, 7], but is made with [2, 6, 7, 7]"),
        ({"dilation": (1, 1)}, "but is made with [2, 6, 4, 8]"),
        ({"padding": (0, 0, 0, 0)}, "but is made with [2, 6, 2, 6]"),
    ],
)
def test_convolutions_that_are_refused(fields, message):
    check(CONV, SHAPES)
    check_refused(replace(CONV, **fields), SHAPES, message)


def test_the_padding_must_fit_into_memory():
    padded = 4 * 2 * 4 * 9 * 9
    check(CONV, SHAPES, padded)
    check_refused(CONV, SHAPES, "its input with padding would take 2,592 bytes of memory", padded - 1)
