"""What goes wrong while an export is written is in tests/formats/exporters/test_hub.py; here, folders alone."""

import os
from pathlib import Path

import pytest

from gpmt.errors import CheckpointError
from gpmt.formats.new_folder import check_folder, new_folder


def write(folder: Path, *, force: bool = False, ours: set[str] | None = None) -> None:
    with new_folder(folder, force=force, ours=(ours or {"a", "inner"}).__contains__) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "b").write_text("b")
        (temporary / "inner" / "b").chmod(0o600)
        (temporary / "a").write_text("a")


def test_files_in_folders_are_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["new", "plain"]
    assert sorted(os.listdir(tmp_path / "new")) == ["a", "inner"]
    for file in ("a", "inner/b"):
        assert (tmp_path / "new" / file).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_only_what_would_be_written_again_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "new")
    with pytest.raises(
        CheckpointError, match="new exists already; choose another folder, or replace it with f"
    ):
        write(tmp_path / "new")
    (tmp_path / "new" / "notes").touch()
    message = (
        r"new holds notes, which would not be written again, so it is not replaced; choose another folder$"
    )
    for check in (write, check_folder):
        with pytest.raises(CheckpointError, match=message):
            check(
                tmp_path / "new",
                force=True,
                ours={"a", "inner"}.__contains__ if check is check_folder else None,
            )
    write(tmp_path / "new", force=True, ours={"a", "inner", "notes"})
    assert sorted(os.listdir(tmp_path / "new")) == ["a", "inner"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "new", force=False, ours=bool) as temporary:
            (temporary / "a").touch()
            raise CheckpointError(f"{temporary}/a cannot be used")

    with pytest.raises(CheckpointError, match=r"^.*/new/a cannot be used$"):
        fail()
    assert os.listdir(tmp_path) == []
