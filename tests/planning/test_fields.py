"""Fields of JSON objects, read with their types."""

import pytest

from gpmt.errors import PlanError
from gpmt.planning.fields import Fields


def test_fields_are_read_with_their_types():
    fields = Fields({"a": "x", "b": [1, 2], "c": None, "d": 0.5}, "it", "a b c d")
    assert (fields.text("a"), fields.counts("b"), fields.optional_text("c"), fields.optional_number("d")) == (
        "x",
        [1, 2],
        None,
        0.5,
    )


@pytest.mark.parametrize(
    ("value", "method", "message"),
    [
        (1, "text", "a of it is 1, but must be a string"),
        (True, "optional_number", "a of it is True, but must be a number or null"),
        (1, "flag", "a of it is 1, but must be true or false"),
        ({}, "counts", r"a of it is \{\}, but must be a list"),
        ([1], "texts", r"a of it is \[1\], but must be a list of strings"),
        ("9/0", "ratio", "a of it is '9/0', but must be a ratio such as \"9/10\""),
        ("x" * 100, "flag", r"a of it is 'x+\.\.\., but must be true or false"),
    ],
)
def test_a_value_of_another_type_is_named(value, method, message):
    with pytest.raises(PlanError, match=f"^{message}$"):
        getattr(Fields({"a": value}, "it", "a"), method)("a")
