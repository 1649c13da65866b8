from pathlib import Path

import pytest

from gpmt.runs.files import Damaged, count, number, read_json, read_rows, read_yaml, section, text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": ', "metrics.json is damaged: Expecting value"),
        (b"[1]", "metrics.json is damaged: it holds a list in place of an object"),
        (b"\xff\xff", "metrics.json is damaged: 'utf-8' codec"),
        (b"[" * 100_000, "metrics.json is damaged: it is nested too deeply"),
    ],
)
def test_json_that_is_not_an_object_is_damaged(tmp_path: Path, content: bytes, sentence: str):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(Damaged) as raised:
        read_json(tmp_path / "metrics.json")
    assert str(raised.value).startswith(sentence)


def test_a_folder_in_the_place_of_a_file(tmp_path: Path):
    with pytest.raises(Damaged, match="cannot be read: Is a directory"):
        read_json(tmp_path)


def test_yaml_is_read_as_data_alone(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("prune: {sparsity: 0.9}")
    assert read_yaml(path) == {"prune": {"sparsity": 0.9}}
    for content in ("a: [", "!!python/object/apply:os.system ['true']", "- 1"):
        path.write_text(content)
        with pytest.raises(Damaged, match=r"recipe.yaml is (not valid YAML|damaged): "):
            read_yaml(path)


def test_rows_of_csv(tmp_path: Path):
    path = tmp_path / "history.csv"
    assert read_rows(path) == []
    path.write_text("a,b\n1,2\n3,\n")
    assert read_rows(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": ""}]
    path.write_text("a,b\n1,2\n3")
    with pytest.raises(Damaged, match="not all the same number of values"):
        read_rows(path)


def test_values_of_the_wrong_kind_are_none():
    assert section({"a": {"b": {"c": 1}}}, "a", "b") == {"c": 1}
    assert section({"a": 1}, "a", "b") == {}
    assert [number(value) for value in (1, "2.5", "nan", None, True, [], "x", 10**400)] == [1.0, 2.5] + [
        None
    ] * 6
    assert [count(value) for value in (0, 3, -1, 2.0, True, "3")] == [0, 3, None, None, None, None]
    assert text("a\n\x1b[31mb\t c") == "a [31mb c"
    assert text(None) == ""
