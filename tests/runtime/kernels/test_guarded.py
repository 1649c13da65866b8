"""Buffers between guard pages end where they should."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.native_only

SCRIPT = """
import ctypes, os
from tests.runtime.kernels.guarded import guarded

def touch(address):
    if (child := os.fork()) == 0:
        ctypes.c_float.from_address(address).value = 1.0
        os._exit(0)
    return os.waitpid(child, 0)[1]

for side in ("start", "end"):
    array = guarded(5, at=side)
    print(side, *(touch(array.ctypes.data + 4 * i) for i in (-1, 0, 4, 5)))
"""


def test_one_element_too_far_crashes():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    start, end = (line.split() for line in run.stdout.splitlines())
    crashes = {str(int(crash)) for crash in (signal.SIGSEGV, signal.SIGBUS)}
    crashes |= {str(int(crash) | 0x80) for crash in list(crashes)}  # with a core dump
    assert start[1] in crashes
    assert start[2:4] == ["0", "0"]
    assert end[1:4] == ["0", "0", "0"]
    assert end[4] in crashes
