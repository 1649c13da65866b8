"""A process of its own that compiles one function, for tests of the cache and of the choice of a processor."""

import os
import subprocess
import sys

SCRIPT = """
import ctypes
from gpmt.runtime.codegen import jit, processor

emitted = []

def emit():
    emitted.append(1)
    return "define i64 @kernel(i64 %x) { %y = add i64 %x, 7\\n ret i64 %y }"

address = jit.load("a function that adds seven", make=emit)
assert jit.load("a function that adds seven", make=emit) == address
print(len(emitted), ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(35), processor.host().kind)
"""


def run_script(script, cache, **environment):
    """Return the standard output of a Python script, by words; `cache` is its $GPMT_CACHE."""
    environment = {**os.environ, "GPMT_CACHE": str(cache), **environment}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def compile_in_process(cache, **environment):
    """Return how often the process compiled, the result (42), and the kind of processor."""
    return run_script(SCRIPT, cache, **environment)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]
