import ctypes
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.runtime.networks import noise, small

import gpmt
from gpmt.runtime.codegen import processor
from gpmt.runtime.machine_code import executable_memory
from gpmt.runtime.machine_code.executable_memory import ExecutableMemory, ExecutableMemoryError, refusal
from gpmt.runtime.machine_code.straight_line import DIALECTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="code is run on Linux only")

# mov rax, rdi; ret, and add rax, 1 between them
SAME = bytes.fromhex("4889f8c3")
NEXT = bytes.fromhex("4889f84883c001c3")


def bytes_of(code):
    return np.frombuffer(code, np.uint8)


def permissions(address):
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, kind, *_ = line.split()
        start, stop = (int(end, 16) for end in span.split("-"))
        if start <= address < stop:
            return kind
    return ""


@pytest.mark.skipif(processor.host().kind == "neon", reason="the bytes are x86 code")
def test_code_runs_and_cannot_be_written():
    memory = ExecutableMemory([bytes_of(SAME), bytes_of(NEXT)])
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    assert [function(address)(41) for address in memory.addresses] == [41, 42]
    assert memory.addresses[1] == memory.addresses[0] + 64
    assert memory.size == 128
    assert {permissions(address) for address in memory.addresses} == {"r-xp"}


@pytest.mark.skipif(processor.host().kind == "neon", reason="the bytes are x86 code")
def test_code_is_there_after_a_fork():
    memory = ExecutableMemory([bytes_of(NEXT)])
    child = os.fork()
    if not child:
        os._exit(ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(memory.addresses[0])(6))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_no_code_is_no_address():
    assert ExecutableMemory([]).addresses == []


@pytest.fixture
def refusing(monkeypatch):
    def refuse(address, length):
        raise ExecutableMemoryError("mprotect: Permission denied")

    monkeypatch.setattr(executable_memory, "_protect", refuse)
    executable_memory._probe.cache_clear()
    yield
    executable_memory._probe.cache_clear()


def test_a_system_that_refuses_is_told_apart(refusing):
    assert refusal() == "mprotect: Permission denied"


@pytest.fixture
def arm(monkeypatch):
    """What is done on aarch64 and can be done here as well."""
    monkeypatch.setattr(executable_memory.platform, "machine", lambda: "aarch64")
    executable_memory._probe.cache_clear()
    yield
    executable_memory._probe.cache_clear()


def test_the_instruction_cache_is_flushed_before_code_can_be_run(arm, monkeypatch):
    done = []
    flush, protect = executable_memory._flush, executable_memory._protect
    monkeypatch.setattr(executable_memory, "_flush", lambda *a: (done.append(("flush", *a)), flush(*a)))
    monkeypatch.setattr(executable_memory, "_protect", lambda *a: (done.append(("protect", *a)), protect(*a)))
    memory = ExecutableMemory([bytes_of(NEXT)])
    assert [name for name, *_ in done] == ["flush", "protect"]
    [(_, start, length), other] = done
    assert other[1:] == (start, length)
    assert start <= memory.addresses[0] < memory.addresses[0] + memory.size <= start + length


def test_without_a_way_to_flush_the_instruction_cache_loops_serve(arm, monkeypatch):
    monkeypatch.setattr(executable_memory, "_LIBGCC", "libgcc_of_nobody.so")
    assert "no way to flush the instruction cache: libgcc_of_nobody.so" in refusal()


@pytest.mark.skipif(processor.host().kind not in DIALECTS, reason="other processors have no such code")
def test_where_the_system_refuses_loops_serve_and_the_program_says_why(refusing):
    network, images = small(), noise(2, 3, 8, 9)
    gpmt.prune_(network, sparsity=0.5)
    program = gpmt.compile(network, images, threads=1, tune=False)
    assert np.allclose(program(images), network(images).detach(), atol=1e-5)
    assert "no straight-line code: it cannot be run here (mprotect: Permission denied)" in repr(program)
