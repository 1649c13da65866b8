import pytest

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
