"""Compiled code: kept on disk by content, made again where the disk has something else, for every kind of host."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpmt.runtime.codegen import disk_cache, jit, processor

SCRIPT = """
import ctypes, sys
from gpmt.runtime.codegen import disk_cache
from gpmt.runtime.codegen import jit
from gpmt.runtime.codegen import processor

made = []

def make():
    made.append(1)
    return "define i64 @kernel(i64 %x) { %y = add i64 %x, 7\\n ret i64 %y }"

address = jit.load("a function that adds seven", make=make)
assert jit.load("a function that adds seven", make=make) == address
print(len(made), ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(35), processor.host().kind)
"""


def process(folder, **more):
    """Return what a process of its own prints: how often it compiled, the result, the kind of processor."""
    environment = {**os.environ, "GPMT_CACHE": str(folder), **more}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_disk_keeps_code_and_damage_is_harmless(tmp_path):
    folder = tmp_path / "not" / "there"
    kind = processor.host().kind
    assert process(folder) == ["1", "42", kind]
    assert process(folder) == ["0", "42", kind]
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40], whole[:-100] + b"x" + whole[-99:]):
        file.write_bytes(damaged)
        assert process(folder) == ["1", "42", kind]
        assert file.read_bytes() == whole, "the file was not written again"


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert process(tmp_path / "file" / "cache")[:2] == ["1", "42"]
    assert (tmp_path / "file").read_text() == "no folder"


def test_other_kinds_of_processors_have_code_of_their_own(tmp_path):
    process(tmp_path)
    assert process(tmp_path, GPMT_TARGET="plain") == ["1", "42", "plain"]
    assert process(tmp_path) == ["0", "42", processor.host().kind]


@pytest.mark.parametrize("wanted", ["avx512", "neon", "nothing"])
def test_a_processor_is_not_made_to_do_more_than_it_can(wanted, tmp_path):
    assert process(tmp_path, GPMT_TARGET=wanted)[2] == processor.host().kind


def test_where_the_cache_is(monkeypatch, tmp_path):
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


def test_text_is_its_own_key():
    source = "define i64 @kernel() { ret i64 5 }"
    address = jit.load(source)
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(address)() == 5
    assert jit.load(source) == address
    other = jit.load(source.replace("5", "6"))
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(other)() == 6


def test_two_functions_of_one_module():
    source = "define i64 @one() { ret i64 1 }\ndefine i64 @two() { ret i64 2 }"
    found = [ctypes.CFUNCTYPE(ctypes.c_int64)(jit.load(source, name))() for name in ("one", "two")]
    assert found == [1, 2]


@pytest.mark.parametrize("kind", ["avx512", "avx2", "neon", "plain"])
def test_code_for_others(kind):
    chosen = processor.named(kind)
    assert chosen.kind == kind
    data = jit.compile_object("define float @kernel(float %x) { ret float %x }", chosen)
    assert data[:4] == b"\x7fELF"


def test_wrong_code_ends_no_process():
    with pytest.raises(RuntimeError):
        jit.load("define i64 @kernel() { ret i32 5 }")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")
def test_code_that_others_can_have_written_is_not_run(tmp_path):
    process(tmp_path)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.stat().st_mode & 0o777 == 0o600
    for mode in (0o620, 0o602):
        file.chmod(mode)
        assert process(tmp_path)[0] == "1"
        assert file.stat().st_mode & 0o777 == 0o600, "the file was not written again"
    if os.geteuid() == 0:
        os.chown(file, 1, 1)
        assert process(tmp_path)[0] == "1"
    assert process(tmp_path)[0] == "0"


def test_a_file_is_kept_whole_or_not_at_all(tmp_path):
    (tmp_path / "taken").mkdir()
    disk_cache.keep(tmp_path / "taken", b"data")  # a folder cannot be replaced
    disk_cache.keep(tmp_path / "new" / "file", b"data")
    assert (tmp_path / "new" / "file").read_bytes() == b"data"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "new", "taken"]


FORKS = """
import os, sys, threading, time, warnings
from gpmt.runtime.codegen import disk_cache
from gpmt.runtime.codegen import jit
from gpmt.runtime.codegen import processor

warnings.filterwarnings("ignore", category=DeprecationWarning)  # about fork in a process with threads

def add(number):
    jit.load(f"define i64 @kernel(i64 %x) {{ %y = add i64 %x, {number}\\n ret i64 %y }}")

def compile_for_ever():
    for number in range(1_000_000):
        add(number)

threading.Thread(target=compile_for_ever, daemon=True).start()
children = []
for i in range(40):
    time.sleep(0.003)
    child = os.fork()
    if child == 0:
        add(-1)
        os._exit(0)
    children.append(child)
deadline = time.monotonic() + 30
while children and time.monotonic() < deadline:
    children = [child for child in children if os.waitpid(child, os.WNOHANG)[0] == 0]
    time.sleep(0.01)
for child in children:
    os.kill(child, 9)
print(len(children))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_compiles_though_its_parent_did(tmp_path):
    environment = {**os.environ, "GPMT_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", FORKS], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["0"], done.stdout + done.stderr
