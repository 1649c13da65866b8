"""Files of JSON in a format with a version; those of plans and of sensitivities are tested with them."""

from pathlib import Path
from typing import Any

import pytest

from gpmt.errors import CheckpointError, PlanError
from gpmt.planning.json_file import JsonFormat

NOTES = JsonFormat("a note", "notes", 3, write="write one", renew="write it anew", error=CheckpointError)


def test_the_document_is_read(tmp_path: Path):
    path = tmp_path / "note.json"
    path.write_text('{"format": "notes", "version": 3, "text": "a"}')
    assert NOTES.load(path, lambda document: document["text"]) == "a"


def refuse(document: dict[str, Any]) -> None:
    raise PlanError("text is missing")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not valid JSON: Expecting property name"),
        ("[]", "it is not a note; write one"),
        ('{"format": "plan"}', "it is not a note; write one"),
        (
            '{"format": "notes", "version": 2}',
            "it is a note of version 2, but this gpmt reads version 3; write it",
        ),
        ('{"format": "notes", "version": 3}', "text is missing"),
    ],
)
def test_every_error_names_the_file(tmp_path: Path, content: str, sentence: str):
    path = tmp_path / "note.json"
    path.write_text(content)
    with pytest.raises(CheckpointError) as raised:
        NOTES.load(path, refuse)
    assert str(raised.value).startswith(f"{path}")
    assert sentence in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(
        CheckpointError, match=r"note\.json cannot be read: No such file or directory; check the path"
    ):
        NOTES.load(tmp_path / "note.json", refuse)
