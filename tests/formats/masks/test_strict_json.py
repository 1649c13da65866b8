"""JSON without keys that are there twice, and without numbers that JSON does not have."""

import pytest

from gpmt.formats.masks.strict_json import read_json


def test_json_is_read_in_its_order() -> None:
    assert list(read_json('{"10": {"b": [1, 2.5, "é"], "a": null}, "2": true}').items()) == [
        ("10", {"b": [1, 2.5, "é"], "a": None}),
        ("2", True),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "'a' is there twice"),
        ('[{"x": {"a": {}, "\\u0061": {}}}]', "'a' is there twice"),
        ('{"a": NaN}', "NaN is not a number of JSON"),
        ("[-Infinity]", "-Infinity is not a number of JSON"),
        ("{", "Expecting property name"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(text)
