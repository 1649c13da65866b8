"""Temporary files of processes that were killed are removed, and those of others are not."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gpmt import temporary
from gpmt.atomic import atomic_path
from gpmt.formats.new_folder import new_folder
from gpmt.temporary import remove_stale, temporary_beside
from tests.waiting import wait_until


def ended_process() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def of_process(path: Path, process: int) -> Path:
    return path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{process}-"))


def test_names_are_new_and_short(tmp_path: Path) -> None:
    names = {temporary_beside(tmp_path / ("n" * 255)).name for _ in range(100)}
    assert len(names) == 100
    assert max(map(len, names)) < 60
    assert all(name.startswith(".gpmt-") and name.endswith(".tmp") for name in names)
    assert temporary_beside(tmp_path / "a", "old").suffix == ".old"


def test_what_an_ended_process_left_is_removed(tmp_path: Path) -> None:
    process = ended_process()
    file, folder, running = (temporary_beside(tmp_path / "a") for _ in range(3))
    file, folder = of_process(file, process), of_process(folder, process)
    file.write_bytes(b"x")
    folder.mkdir()
    (folder / "inner").write_bytes(b"x")
    running.mkdir()
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [running]


@pytest.mark.parametrize(
    "name",
    [
        "notes.tmp",
        ".gpmt-notes.tmp",
        ".gpmt-1-2-3.tmp",
        "x.gpmt-0123456789abcdef.tmp",
        ".gpmt-0123456789abcdef.old",
    ],
)
def test_other_files_stay(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    os.utime(path, (0, 0))
    remove_stale(tmp_path)
    assert path.exists()


def test_what_another_machine_left_is_removed_after_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "_origin", lambda: "0123abcd")
    new, old = (of_process(temporary_beside(tmp_path / "a"), ended_process()) for _ in range(2))
    before = tmp_path / ".gpmt-0123456789abcdef.tmp"  # as they were called once
    for path, days in ((new, 6), (old, 8), (before, 8)):
        path.touch()
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)
    monkeypatch.undo()
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_the_folder_that_was_about_to_be_replaced_stays(tmp_path: Path) -> None:
    old = of_process(temporary_beside(tmp_path / "a", "old"), ended_process())
    old.mkdir()
    remove_stale(tmp_path)
    assert old.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    link = of_process(temporary_beside(tmp_path / "a"), ended_process())
    link.symlink_to(tmp_path / "mine")
    remove_stale(tmp_path)
    assert not link.is_symlink()
    assert (tmp_path / "mine" / "file").exists()


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_stale(tmp_path / "missing")


CODE = {
    "file": """
        from gpmt.atomic import atomic_path
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            temporary.with_name(".tmp123").write_text("as safetensors writes")
            wait()
        """,
    "folder": """
        from gpmt.formats.new_folder import new_folder
        with new_folder(target, force=False, ours=lambda name: False) as temporary:
            (temporary / "a").write_text("half")
            wait()
        """,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CODE)
def test_after_kill_9_the_next_write_cleans_up(tmp_path: Path, kind: str) -> None:
    target, marker = tmp_path / "out", tmp_path / "marker"
    code = f"""
import sys, time
from pathlib import Path
target, marker = map(Path, sys.argv[1:])
def wait():
    marker.touch()
    time.sleep(60)
{textwrap.dedent(CODE[kind])}
"""
    with subprocess.Popen([sys.executable, "-c", code, target, marker]) as process:
        wait_until(marker.exists)
        process.kill()
    marker.unlink()
    assert [path.name[:6] for path in tmp_path.iterdir()] == [".gpmt-"]
    if kind == "file":
        with atomic_path(target) as file:
            file.write_text("whole")
    else:
        with new_folder(target, force=False, ours=bool) as folder:
            (folder / "a").write_text("whole")
    assert list(tmp_path.iterdir()) == [target]
    assert (target if kind == "file" else target / "a").read_text() == "whole"
