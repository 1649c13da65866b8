"""The activations that ATen operators are, by name and bounds."""

import math

import pytest
import torch
from tests.runtime.networks import noise
from tests.runtime.reference import activate
from torch.nn import functional as F

from gpmt.runtime.ir.activation import ATEN_ACTIVATIONS, IDENTITY, RELU, RELU6, Activation

FUNCTIONS = {
    "relu": (F.relu, {}),
    "relu6": (F.relu6, {}),
    "hardtanh": (F.hardtanh, {"min_val": -0.5, "max_val": 1.5}),
    "clamp": (torch.clamp, {"min": -0.5, "max": None}),
    "clip": (torch.clip, {"min": None, "max": 1}),
    "clamp_min": (torch.clamp_min, {"min": 0.25}),
    "clamp_max": (torch.clamp_max, {"max": 0.25}),
    "silu": (F.silu, {}),
    "hardswish": (F.hardswish, {}),
    "sigmoid": (torch.sigmoid, {}),
    "tanh": (torch.tanh, {}),
    "gelu": (F.gelu, {"approximate": "tanh"}),
    "leaky_relu": (F.leaky_relu, {"negative_slope": 0.3}),
}


def test_every_name_is_compared():
    assert FUNCTIONS.keys() == ATEN_ACTIVATIONS.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_activation_is_the_operator(name):
    function, arguments = FUNCTIONS[name]
    values = 4 * noise(500)
    torch.testing.assert_close(
        activate(values, ATEN_ACTIVATIONS[name](arguments)), function(values, **arguments)
    )


def test_bounds_that_are_left_out_are_infinite():
    assert Activation("clamp", -math.inf, 3.0) == ATEN_ACTIVATIONS["clamp"]({"min": None, "max": 3})
    assert ATEN_ACTIVATIONS["clamp_min"]({"min": 0}) == RELU
    assert ATEN_ACTIVATIONS["hardtanh"]({"min_val": 0, "max_val": 6}) == RELU6
    assert Activation("none") == IDENTITY


def test_kinds_of_gelu():
    gelu = ATEN_ACTIVATIONS["gelu"]
    assert [gelu({"approximate": kind}) for kind in ("none", "tanh", "other")] == [
        Activation("gelu"), Activation("gelu_tanh"), None,
    ]  # fmt: skip
    assert ATEN_ACTIVATIONS["leaky_relu"]({"negative_slope": 1e39}) is None


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1, 0),
        (math.nan, 1),
        (0, math.nan),
        (math.inf, None),
        (None, -math.inf),
        (-1e300, 1),
        (0, 1e39),
        (torch.zeros(3), None),
        (None, 1j),
    ],
)
def test_other_bounds_are_not_an_activation(low, high):
    assert ATEN_ACTIVATIONS["clamp"]({"min": low, "max": high}) is None
