import subprocess
from pathlib import Path

import pytest
from tests.runtime import aarch64
from tests.runtime.threads.pool_kernels import KERNELS

from gpmt.runtime.codegen import jit, processor
from gpmt.runtime.threads import driver


@pytest.mark.parametrize(
    "triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin"]
)
def test_the_loop_compiles_for_other_processors(triple):
    kind = processor.named("avx2" if triple.startswith("x86") else "neon")
    text = jit.assembly(driver.driver_ir(triple), kind)
    assert ("pause" if triple.startswith("x86") else "yield") in text
    for name in driver.FUNCTIONS:
        assert f"{name}:" in text


def test_a_processor_without_a_pause_works_too():
    assert "call void @llvm" not in driver.driver_ir("riscv64-unknown-linux-gnu")
    jit.assembly(driver.driver_ir("riscv64-unknown-linux-gnu"), processor.named("plain"))


def test_the_state_has_room_for_what_the_system_keeps_in_it():
    # glibc: 40 to 48 bytes; musl: 40 to 48; macOS: 64 and 48.
    assert driver.MUTEX + 256 == driver.CONDITION
    assert driver.CONDITION + 256 == driver.CURSORS
    assert driver.state_bytes(1024) == driver.CURSORS + 8 * 1024


@pytest.mark.slow
@pytest.mark.aarch64
@pytest.mark.skipif(aarch64.missing() is not None, reason=aarch64.missing() or "")
def test_threads_share_steps_on_aarch64(tmp_path):
    ir = driver.driver_ir(aarch64.PROCESSOR.triple)
    objects = [jit.compile_object(code, aarch64.PROCESSOR) for code in (ir, KERNELS)]
    macros = {
        name: value for name, value in vars(driver).items() if name.isupper() and isinstance(value, int)
    }
    command = aarch64.program(tmp_path, Path(__file__).with_name("driver.c"), objects, macros)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
