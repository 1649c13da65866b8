"""Compiled code: equal sources once, for every kind of processor, also in the child of a fork."""

import ctypes
import os

import pytest
from tests.runtime.codegen.compiling_process import compile_in_process, run_script

from gpmt.runtime.codegen import jit, processor


def test_the_source_is_the_key():
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


def test_kinds_of_processors_have_code_of_their_own(tmp_path):
    compile_in_process(tmp_path)
    assert compile_in_process(tmp_path, GPMT_TARGET="plain") == ["1", "42", "plain"]
    assert compile_in_process(tmp_path) == ["0", "42", processor.host().kind]


@pytest.mark.parametrize("kind", ["avx512", "avx2", "neon", "plain"])
def test_code_for_other_processors(kind):
    source = "define float @kernel(float %x) { ret float %x }"
    assert jit.compile_object(source, processor.named(kind))[:4] == b"\x7fELF"


def test_invalid_code_does_not_end_the_process():
    with pytest.raises(RuntimeError):
        jit.load("define i64 @kernel() { ret i32 5 }")


FORKS = """
import os, threading, time, warnings
from gpmt.runtime.codegen import jit

warnings.filterwarnings("ignore", category=DeprecationWarning)  # about fork in a process with threads

def compile_addition(number):
    jit.load(f"define i64 @kernel(i64 %x) {{ %y = add i64 %x, {number}\\n ret i64 %y }}")

def compile_for_ever():
    for number in range(1_000_000):
        compile_addition(number)

threading.Thread(target=compile_for_ever, daemon=True).start()
children = []
for i in range(40):
    time.sleep(0.003)
    child = os.fork()
    if child == 0:
        compile_addition(-1)
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
def test_the_child_of_a_fork_compiles_while_its_parent_does(tmp_path):
    assert run_script(FORKS, tmp_path) == ["0"]
