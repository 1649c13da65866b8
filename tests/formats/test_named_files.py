import os
import re
from pathlib import Path

import pytest

from gpmt.errors import CheckpointError
from gpmt.formats.named_files import named_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    for name in ("a", "deep/b"):
        (tmp_path / "in" / name).write_text("x")
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["a", "deep/b", "./a"])
def test_files_inside_are_found(folder: Path, name: str) -> None:
    assert named_file(folder, name, folder / "index").read_text() == "x"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../secret", r"index names '\.\./secret', which may lie outside .*; only files inside it are read$"),
        ("deep/../../secret", "may lie outside"),
        ("..\\secret", "may lie outside"),
        ("/etc/passwd", "may lie outside"),
        ("C:\\secret", "may lie outside"),
        ("//host/share", "may lie outside"),
        ("", "names '', which is not the name of a file; it is damaged$"),
        ("a\0b", "which is not the name of a file"),
        (7, "names 7, which is not the name of a file"),
        (None, "names None, which is not"),
        (["a"], "names list, which is not"),
        ("none", r"names 'none', which is missing in .*; copy or download it again$"),
        ("x" * 5000, r"names 'x{100}\.\.\.', which cannot be read: File name too long; check it"),
        ("a/b", r"names 'a/b', which cannot be read: Not a directory"),
        ("deep", "names 'deep', which is not a regular file; put the file in its place$"),
    ],
)
def test_everything_else_is_refused(folder: Path, name: object, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as refused:
        named_file(folder, name, folder / "index")
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of Unix")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        named_file(folder, "pipe", folder / "index")


def link(at: Path, to: Path) -> None:
    try:
        at.symlink_to(to)
    except OSError:
        pytest.skip("links cannot be made here")


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    link(folder / "out", folder.parent / "secret")
    link(folder / "up", folder.parent)
    link(folder / "round", folder / "round")
    for name, why in [("out", "leads out of"), ("up/secret", "leads out of"), ("round", "cannot be read")]:
        with pytest.raises(CheckpointError, match=f"names '{re.escape(name)}', .*{why}"):
            named_file(folder, name, folder / "index")


def test_links_within_the_folder_and_to_it_are_followed(folder: Path) -> None:
    link(folder / "same", folder / "a")
    link(folder.parent / "door", folder)
    assert named_file(folder, "same", folder).read_text() == "x"
    assert named_file(folder.parent / "door", "same", folder).read_text() == "x"


def test_the_cache_of_hugging_face_links_to_its_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    (snapshot / "unet").mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("x")
    (tmp_path / "secret").write_text("x")
    link(snapshot / "model.safetensors", Path("../../blobs/abc"))
    link(snapshot / "unet" / "model.safetensors", Path("../../../blobs/abc"))
    link(snapshot / "out", tmp_path / "secret")
    assert named_file(snapshot, "model.safetensors", snapshot).read_text() == "x"
    assert named_file(snapshot / "unet", "model.safetensors", snapshot).read_text() == "x"
    with pytest.raises(CheckpointError, match="leads out of"):
        named_file(snapshot, "out", snapshot)
