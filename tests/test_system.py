"""What the machine offers, as far as the operating system says it."""

import os
from pathlib import Path

import pytest

from gpmt import system


def test_a_container_or_a_limit_lowers_the_memory(tmp_path, monkeypatch):
    everything = system.memory_limit()
    (tmp_path / "memory.max").write_text("1048576\n")
    (tmp_path / "unlimited").write_text("max\n")
    monkeypatch.setattr(system, "_CONTAINER", (str(tmp_path / "unlimited"), str(tmp_path / "memory.max")))
    assert system.memory_limit() == 1 << 20 < everything


def test_the_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert system.core_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.core_count() == 1


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the name is read from Linux's /proc")
def test_the_processor_has_a_name():
    assert system.cpu_name() == system.cpu_name().strip() != ""


def test_without_proc_the_processor_is_its_architecture(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(system.platform, "processor", lambda: "")
    monkeypatch.setattr(system.platform, "machine", lambda: "riscv64")
    assert system.cpu_name() == "riscv64"
