"""Readers of plain data: each returns what it is for, and refuses everything else with its text."""

import pytest

from gpmt.runtime.ir.document import (
    DocumentError,
    read_flag,
    read_integer,
    read_list,
    read_table,
    read_text,
    shorten,
)


def test_what_readers_return():
    table, listed = {"a": 1, "b": 2}, [1, "x"]
    assert read_table(table, "graph", ("b", "a")) is table
    assert read_list(listed, "inputs") is listed
    assert read_text("", "name") == ""
    assert read_integer(1, "stride") == 1
    assert read_integer(0, "padding", least=0) == 0
    assert read_integer((1 << 40) - 1, "size") == (1 << 40) - 1
    assert read_flag(False, "count_padding") is False


@pytest.mark.parametrize("value", [None, [], "ab", {}, {"a": 1}, {"a": 1, "b": 2, "c": 3}])
def test_tables(value):
    with pytest.raises(DocumentError, match=r"^has a graph that does not consist of a, b$"):
        read_table(value, "graph", ("a", "b"))


@pytest.mark.parametrize("value", [None, (), "x", {}])
def test_lists(value):
    with pytest.raises(DocumentError) as caught:
        read_list(value, "inputs")
    assert str(caught.value) == f"has {value!r} for its inputs, not a list"


@pytest.mark.parametrize("value", [None, 1, ["x"], b"x"])
def test_texts(value):
    with pytest.raises(DocumentError) as caught:
        read_text(value, "name")
    assert str(caught.value) == f"has {value!r} for a name, not a text"


@pytest.mark.parametrize("value", [None, "1", 1.0, True, 0, -1, 1 << 40])
def test_integers(value):
    with pytest.raises(DocumentError) as caught:
        read_integer(value, "stride")
    assert str(caught.value) == f"has {value!r} for a stride"


@pytest.mark.parametrize("value", [None, 0, 1, "true"])
def test_flags(value):
    with pytest.raises(DocumentError) as caught:
        read_flag(value, "count_padding")
    assert str(caught.value) == f"has {value!r} for count_padding, not true or false"


def test_long_values_are_shortened():
    assert shorten("x" * 58) == repr("x" * 58)
    assert shorten("x" * 59) == "'" + "x" * 58 + "…"
