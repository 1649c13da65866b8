from pathlib import Path

import pytest

from gpmt.errors import ReportError
from gpmt.report.content.documents import Document, read_document, read_settings


def test_what_has_another_type_is_not_there():
    found = Document(
        {"kept": -1, "seed": True, "top1": float("nan"), "name": 3, "rows": "abc", "plan": [1], "flag": 1}
    )
    assert found.count("kept") is None
    assert found.count("seed") is None
    assert found.number("seed") is None
    assert found.number("top1") is None
    assert found.text("name") == ""
    assert found.rows("rows") == []
    assert not found.object("plan")
    assert found.flag("flag") is None
    assert found.number("absent") is None


def test_numbers_and_lists_keep_what_fits():
    found = Document(
        {"macs": {"a": 1, "b": "x", "c": 2.5, "d": 10**400}, "names": ["a", 1], "shape": [3, "x", 4]}
    )
    assert found.numbers("macs") == {"a": 1.0, "c": 2.5}
    assert found.texts("names") == ("a",)
    assert found.counts("shape") == (3, 4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"kept": 3', "is damaged: Expecting"),
        (b"[1, 2]", "is damaged: it holds a list in place of an object"),
        (b"\xff\xfe{}", "is damaged: 'utf-8' codec"),
        (b"[" * 100_000, "is damaged: it is nested too deeply"),
    ],
)
def test_a_damaged_document_is_named_with_the_remedy(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(ReportError) as caught:
        read_document(path, "run it again")
    assert str(caught.value).startswith(f"{path} {reason}")
    assert str(caught.value).endswith("; run it again")


def test_a_missing_document_is_named(tmp_path: Path):
    with pytest.raises(ReportError, match=r"none.json cannot be read: No such file or directory; look"):
        read_document(tmp_path / "none.json", "look")


def test_settings_are_read_from_yaml(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: resnet20\nprune: {sparsity: 0.9}\n")
    assert read_settings(path, "").object("prune").number("sparsity") == 0.9
    for damaged in ("a: [", "just words"):
        path.write_text(damaged)
        with pytest.raises(ReportError, match=r"recipe.yaml is (not valid YAML|damaged): "):
            read_settings(path, "look")
