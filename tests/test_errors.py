from collections.abc import Callable

import pytest

from gpmt import errors
from gpmt.errors import GpmtError, first_line, first_sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[96mFirst\x1b[0m is 1.5. Second.\nThird", "First is 1.5"),
        ("one line\nanother", "one line"),
        ("no module a.b.c.", "no module a.b.c"),
        ("  the cause:\ndetails", "the cause"),
        ("", "ValueError"),
        (" \n\x1b[0m", "ValueError"),
        ("...", "ValueError"),
    ],
)
def test_the_first_sentence_or_the_type(text: str, expected: str) -> None:
    assert first_sentence(ValueError(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("First is 1.5. Second.\nThird", "First is 1.5. Second."),
        (" \n  the cause:\ndetails", "the cause:"),
        ("", "ValueError"),
        (" \n", "ValueError"),
    ],
)
def test_the_first_line_or_the_type(text: str, expected: str) -> None:
    assert first_line(ValueError(text)) == expected


@pytest.mark.parametrize("part", [first_line, first_sentence])
def test_an_error_without_arguments_is_named_by_its_type(part: Callable[[BaseException], str]) -> None:
    assert part(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_every_error_can_be_caught_as_one() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) > 5
    assert all(issubclass(one, GpmtError) for one in classes)
    assert issubclass(GpmtError, ValueError)
