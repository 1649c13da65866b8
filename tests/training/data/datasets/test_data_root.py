from pathlib import Path

import pytest

from gpmt.errors import DataError
from gpmt.training.data.datasets.data_root import check_root

EXPECTED = "train/ and test/"


def test_an_existing_folder_is_returned(tmp_path: Path):
    assert check_root(tmp_path, "mnist", EXPECTED) == tmp_path


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    assert check_root(Path("~/data"), "mnist", EXPECTED) == tmp_path / "data"


def test_no_folder_given():
    with pytest.raises(
        DataError,
        match=r"^data\.root is not given; give data\.root=FOLDER, where the folder holds train/ and test/$",
    ):
        check_root(None, "mnist", EXPECTED)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_not_a_folder_is_named(tmp_path: Path, name: str):
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError,
        match=rf"^data\.root is .*{name}, which is not a folder; for mnist it must hold train/ and test/$",
    ):
        check_root(tmp_path / name, "mnist", EXPECTED)
