"""The cache on disk: where it is, files that are whole or not there, and files that are not trusted."""

import os
import sys
from pathlib import Path

import pytest
from tests.runtime.codegen.compiling_process import compile_in_process, files_in

from gpmt.runtime.codegen import disk_cache, processor


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GPMT_CACHE", str(tmp_path))
    assert disk_cache.cache_folder() == tmp_path
    monkeypatch.delenv("GPMT_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert disk_cache.cache_folder() == tmp_path / "xdg" / "gpmt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert disk_cache.cache_folder() == tmp_path / ".cache" / "gpmt"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert disk_cache.cache_folder() == Path(tmp_path) / "Library" / "Caches" / "gpmt"


def test_a_damaged_file_is_written_again(tmp_path):
    folder = tmp_path / "not" / "there"
    kind = processor.host().kind
    assert compile_in_process(folder) == ["1", "42", kind]
    assert compile_in_process(folder) == ["0", "42", kind]
    (file,) = files_in(folder)
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40], whole[:-100] + b"x" + whole[-99:]):
        file.write_bytes(damaged)
        assert compile_in_process(folder) == ["1", "42", kind]
        assert file.read_bytes() == whole, "the file was not written again"


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert compile_in_process(tmp_path / "file" / "cache")[:2] == ["1", "42"]
    assert (tmp_path / "file").read_text() == "no folder"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")
def test_code_that_others_may_have_written_is_not_run(tmp_path):
    compile_in_process(tmp_path)
    (file,) = files_in(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    for mode in (0o620, 0o602):
        file.chmod(mode)
        assert compile_in_process(tmp_path)[0] == "1"
        assert file.stat().st_mode & 0o777 == 0o600, "the file was not written again"
    if os.geteuid() == 0:
        os.chown(file, 1, 1)
        assert compile_in_process(tmp_path)[0] == "1"
    assert compile_in_process(tmp_path)[0] == "0"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "taken").mkdir()
    disk_cache.write(tmp_path / "taken", b"data")  # a folder cannot be replaced
    disk_cache.write(tmp_path / "new" / "file", b"data")
    assert (tmp_path / "new" / "file").read_bytes() == b"data"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "new", "taken"]
