import json
from pathlib import Path
from typing import Any

import pytest
from tests.sensitivities.examples import example

from gpmt.errors import CheckpointError
from gpmt.sensitivities.result import Sensitivity


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.json"
    for found in (
        example(),
        example(curves=()),
        example(curves=(), dense=type(example().dense)(-1e-300, None)),
    ):
        found.save(path)
        assert Sensitivity.load(path) == found
    assert json.loads(path.read_text())["format"] == "gpmt-sensitivity"


def changed(document: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    *keys, last = [int(key) if key.isdecimal() else key for key in place.split("/")]
    inner: Any = document
    for key in keys:
        inner = inner[key]
    inner[last] = value
    return document


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("format", "gpmt-plan", "it is not a sensitivity; write one with gpmt sensitivity FILE"),
        ("version", 2, "it is a sensitivity of version 2, but this gpmt reads version 1; measure again"),
        ("extra", 1, "the sensitivity has an unknown field 'extra'"),
        ("samples", -1, "samples of the sensitivity is -1, but must be from 0"),
        ("recalibrated", 1, "recalibrated of the sensitivity is 1, but must be true or false"),
        ("network", "abc", "network of the sensitivity is 'abc', but must be a SHA-256"),
        ("sparsities", ["9/10", "1/2"], "sparsities of the sensitivity must be one or more, rising"),
        ("sparsities", ["1/2", "19/20"], "the cells of a.weight must be one for each of the sparsities"),
        ("sparsities/0", "1/0", "sparsity is 1/0, but must be a number"),
        ("sparsities/0", "0.5", """a sparsity is '0.5', but must be a ratio such as "9/10\""""),
        ("blocks", [], "blocks of the sensitivity must be the names of one or more blocks, each once"),
        ("blocks", ["b.weight", "a.weight"], "curves of the sensitivity must be those of its first blocks"),
        ("settings", {"data": []}, "settings of the sensitivity must be an object of strings and whole"),
        ("dense/loss", None, "loss of dense of the sensitivity is null, but must be a number"),
        ("dense/top1", 1.5, "top1 of dense of the sensitivity is 1.5, but must be from 0 to 1"),
        ("dense/top1", None, "some cells of the sensitivity have an accuracy, and others have none"),
        ("curves/0/cells/1/kept", 21, "kept of cells[1] of a.weight is 21, but must be from 0 to 20"),
        ("curves/0/cells/1/kept", 1, "kept of cells[1] of a.weight is 1, which is fewer than its sparsity"),
        ("curves/1/cells", [], "the cells of b.weight must be one for each of the sparsities"),
    ],
)
def test_a_file_that_was_changed_is_refused(tmp_path: Path, place: str, value: Any, said: str) -> None:
    path = tmp_path / "sensitivity.json"
    example().save(path)
    path.write_text(json.dumps(changed(json.loads(path.read_text()), place, value)))
    with pytest.raises(CheckpointError) as caught:
        Sensitivity.load(path)
    assert str(caught.value).startswith(f"{path}: {said}".replace("sparsity is 1/0", "sparsity is '1/0'"))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.json"
    with pytest.raises(CheckpointError, match=r"cannot be read: No such file or directory; check the path$"):
        Sensitivity.load(path)
    for text in ("", "{", '{"format": NaN}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"is not valid JSON"):
            Sensitivity.load(path)
