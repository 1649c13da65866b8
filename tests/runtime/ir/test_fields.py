"""Kinds of fields: each is saved and read again, and knows the values that it names."""

import json
import math

import numpy as np
import pytest
import torch

from gpmt.runtime.ir import fields
from gpmt.runtime.ir.activation import IDENTITY, RELU, RELU6, Activation
from gpmt.runtime.ir.document import DocumentError
from gpmt.runtime.ir.fields import FieldKind, read_array, read_tensor

NAMES = {"x": "first", "z": "second"}
# The field, the values that it reads and writes, and the field with other names.
CASES = [
    ("INPUT", "x", ("x",), (), "first"),
    ("INPUT", "other", ("other",), (), "other"),
    ("INPUTS", ("x", "other", "z"), ("x", "other", "z"), (), ("first", "other", "second")),
    ("OPTIONAL_INPUT", "z", ("z",), (), "second"),
    ("OPTIONAL_INPUT", None, (), (), None),
    ("OUTPUT", "x", (), ("x",), "x"),
    ("INTEGER_INPUT", "x", ("x",), (), "first"),
    ("ARRAY", "x", (), (), "x"),
    ("OPTIONAL_ARRAY", "x", (), (), "x"),
    ("INDEX_TRIPLE", (0, 1, 2), (), (), (0, 1, 2)),
    ("NUMBER", 0.1, (), (), 0.1),
    ("FEATURE_AXIS", -1, (), (), -1),
    ("ORDER", (0, 2, 1), (), (), (0, 2, 1)),
    ("TEXT", "x", (), (), "x"),
    ("FLAG", True, (), (), True),
    ("COUNT", 3, (), (), 3),
    ("INDEX", 0, (), (), 0),
    ("PAIR", (1, 2), (), (), (1, 2)),
    ("PADDING", (0, 1, 2, 3), (), (), (0, 1, 2, 3)),
    *(
        ("ACTIVATION", activation, (), (), activation)
        for activation in (
            IDENTITY, RELU, RELU6, Activation("silu"), Activation("hardswish"), Activation("sigmoid"),
            Activation("clamp", -math.inf, 0.5), Activation("clamp"), Activation("gelu"),
            Activation("gelu_tanh"), Activation("tanh"), Activation("leaky_relu", 0.2),
        )
    ),
]  # fmt: skip
WRONG = [
    ("INPUT", None, "has None for a field, not a text"),
    ("INPUTS", "x", "has 'x' for its field, not a list"),
    ("INPUTS", [], "has no field"),
    ("INPUTS", ["x", 1], "has 1 for a field, not a text"),
    ("OPTIONAL_INPUT", False, "has False for a field, not a text"),
    ("FLAG", 1, "has 1 for field, not true or false"),
    ("COUNT", 0, "has 0 for a field"),
    ("INDEX", -1, "has -1 for a field"),
    ("PAIR", [1], "has [1] for a field, not 2 numbers"),
    ("PAIR", [1, 0], "has 0 for a field"),
    ("PADDING", [0, 0, 0], "has [0, 0, 0] for a field, not 4 numbers"),
    ("PADDING", [0, 0, 0, -1], "has -1 for a field"),
    ("INDEX_TRIPLE", [0, 0], "has [0, 0] for a field, not 3 numbers"),
    ("NUMBER", "1", "has '1' for a field"),
    ("NUMBER", 1e39, "has 1e+39 for a field"),
    ("FEATURE_AXIS", 0, "has 0 for an field, not 1 or -1"),
    ("FEATURE_AXIS", True, "has True for an field, not 1 or -1"),
    ("ORDER", [0, -1], "has -1 for a field"),
    ("ACTIVATION", ["leaky_relu", 1e39], "has ['leaky_relu', 1e+39] for an field"),
    ("ACTIVATION", "silu", "has 'silu' for an field"),
    ("ACTIVATION", ["relu"], "has ['relu'] for an field"),
    ("ACTIVATION", ["clamp", 0], "has ['clamp', 0] for an field"),
    ("ACTIVATION", ["clamp", 2, 1], "has ['clamp', 2, 1] for an field"),
    ("ACTIVATION", ["clamp", "inf", 1], "has 'inf' for a bound"),
    ("ACTIVATION", ["clamp", 0, "-inf"], "has '-inf' for a bound"),
    ("ACTIVATION", ["clamp", 0, True], "has True for a bound"),
    ("ACTIVATION", ["clamp", 0, 1e39], "has 1e+39 for a bound"),
]


def test_every_kind_is_tested():
    kinds = {name for name, kind in vars(fields).items() if isinstance(kind, FieldKind)}
    assert kinds == {name for name, *_ in CASES}


@pytest.mark.parametrize(("kind", "value", "reads", "writes", "renamed"), CASES)
def test_kinds(kind, value, reads, writes, renamed):
    kind = getattr(fields, kind)
    assert kind.decode(json.loads(json.dumps(kind.encode(value), allow_nan=False)), "field") == value
    assert (kind.reads(value), kind.writes(value)) == (reads, writes)
    assert kind.rename(value, NAMES) == renamed


@pytest.mark.parametrize(("kind", "data", "message"), WRONG)
def test_wrong_data_is_refused(kind, data, message):
    with pytest.raises(DocumentError) as caught:
        getattr(fields, kind).decode(data, "field")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["other", 1, None, ["x"]])
def test_tensors_that_are_not_there(name):
    with pytest.raises(DocumentError) as caught:
        read_tensor(name, {"x": torch.zeros(2)})
    assert str(caught.value) == f"needs the tensor {name!r}, which is not there"


def test_arrays_are_float32_and_contiguous():
    tensors = {"x": torch.arange(6.0).view(2, 3).t(), "half": torch.zeros(2, dtype=torch.float16)}
    array = read_array("x", tensors)
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert np.array_equal(array, [[0, 3], [1, 4], [2, 5]])
    with pytest.raises(DocumentError, match=r"^needs the tensor 'half' in float32, not torch.float16$"):
        read_array("half", tensors)
