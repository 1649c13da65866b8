import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpmt.atomic import atomic_path, check_output
from gpmt.errors import CheckpointError

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def write(path: Path, text: str = "new") -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def fail(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def test_replaces_the_file_only_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent.parent == tmp_path
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1), MemoryError()])
def test_any_exception_leaves_everything_as_it_was(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(type(error)):
        fail(path, error)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "out") as temporary:
            temporary.chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == mode


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    write(tmp_path / ("n" * 255))
    assert os.listdir(tmp_path) == ["n" * 255]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "missing/out",
            "missing/out cannot be written: the folder .*missing does not exist; create it first",
        ),
        ("folder", "folder cannot be written: it is a folder; add a file name"),
        ("file/out", "file/out cannot be written: .*file is not a folder; choose another"),
        ("file/deeper/out", "file/deeper/out cannot be written: a part of it is a file"),
        ("pipe", "pipe cannot be written: it is not a regular file; choose another name"),
        ("n" * 256, "cannot be written: File name too long; choose another name"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(CheckpointError, match=message):
        write(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(CheckpointError, match="/dev/null cannot be written: it is not a regular file"):
        write(Path("/dev/null"))


@needs_permissions
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match=r"out cannot be written: no permission to write in"):
        check_output(tmp_path / "out")


def test_no_permission_reads_the_same_when_only_the_write_fails(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"out cannot be written: no permission to write in"):
        fail(tmp_path / "out", PermissionError(errno.EACCES, "Permission denied"))
    assert os.listdir(tmp_path) == []


def test_an_error_about_another_file_passes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "out"):
        (tmp_path / "other").read_text()
    assert os.listdir(tmp_path) == []


def test_no_space_left(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: both fail in the same system call."""
    code = """
import resource, sys
from pathlib import Path
from gpmt.atomic import atomic_path
from gpmt.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_path(sys.argv[1]) as temporary:
        temporary.write_bytes(bytes(5000))
except CheckpointError as error:
    print(error)
"""
    path = tmp_path / "out"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        f"{path} cannot be written: no space left in {tmp_path}; free some, or choose another folder"
    )
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]
