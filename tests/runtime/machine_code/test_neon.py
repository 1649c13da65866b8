"""Each instruction against a disassembler."""

import pytest

from gpmt.runtime.machine_code import neon
from gpmt.runtime.machine_code.neon import SP

capstone = pytest.importorskip("capstone")

VECTORS = range(32)
BASES = (0, 7, 15, 28, SP)


@pytest.fixture(scope="module")
def read():
    machine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)

    def read(code: bytes) -> str:
        """Return the only instruction of some bytes."""
        [(_, size, name, operands)] = machine.disasm_lite(code, 0x1000)
        assert size == len(code) == 4
        return f"{name} {operands}"

    return read


def number(value: int) -> str:
    return f"#{'-' if value < 0 else ''}{abs(value) if abs(value) < 10 else hex(abs(value))}"


def register(index: int) -> str:
    return "sp" if index == SP else f"x{index}"


def address(base: int, displacement: int) -> str:
    return f"[{register(base)}{f', {number(displacement)}' if displacement else ''}]"


@pytest.mark.parametrize("base", BASES)
def test_memory(read, base):
    for index, place in enumerate((0, 16, 4080, 4096, 65520) * 7):
        vector, at = index % 32, address(base, place)
        assert read(neon.load(vector, base, place)) == f"ldr q{vector}, {at}"
        assert read(neon.store(vector, base, place)) == f"str q{vector}, {at}"
    for place in (0, 8, -8, 504, -512):
        for vector in VECTORS[:-1]:
            pair = f"d{vector}, d{vector + 1}, {address(base, place)}"
            assert read(neon.store_halves(vector, vector + 1, base, place)) == f"stp {pair}"
            assert read(neon.load_halves(vector, vector + 1, base, place)) == f"ldp {pair}"
    for place in (0, 8, 64, 32704, 32760):
        assert read(neon.prefetch(base, place)) == f"prfm pldl2keep, {address(base, place)}"


@pytest.mark.parametrize("total", VECTORS)
def test_multiply_adds_of_all_registers_and_elements(read, total):
    for weights in VECTORS:
        for element in range(4):
            factor = (weights * 11 + total) % 32
            code = neon.multiply_add(total, factor, weights, element)
            assert read(code) == f"fmla v{total}.4s, v{factor}.4s, v{weights}.s[{element}]"


@pytest.mark.parametrize("target", VECTORS)
def test_vectors(read, target):
    a, b = (target * 7 + 3) % 32, (target * 13 + 17) % 32
    three = f"v{target}.4s, v{a}.4s, v{b}.4s"
    assert read(neon.add(target, a, b)) == f"fadd {three}"
    assert read(neon.maximum(target, a, b)) == f"fmax {three}"
    assert read(neon.minimum(target, a, b)) == f"fmin {three}"
    assert read(neon.both_bits(target, a, b)) == f"and {three.replace('4s', '16b')}"
    for element in range(4):
        assert read(neon.broadcast(target, a, element)) == f"dup v{target}.4s, v{a}.s[{element}]"


@pytest.mark.parametrize("target", BASES)
def test_numbers_and_addresses(read, target):
    name = register(target)
    for value in (1, 64, 4095):
        assert read(neon.increase(target, 9, value)) == f"add {name}, x9, {number(value)}"
        assert read(neon.decrease(target, SP, value)) == f"sub {name}, sp, {number(value)}"
    for value in (4096, 65536, 4095 << 12):
        assert read(neon.increase(target, 9, value)) == f"add {name}, x9, {number(value >> 12)}, lsl #12"
    if target == SP:
        return
    assert read(neon.add_shifted(target, 3, 8, 15)) == f"add {name}, x3, x8, lsl #15"
    assert read(neon.add_shifted(target, 3, 8, 0)) == f"add {name}, x3, x8"
    for value in (0, 5, 65535, -1, -2, -65536):
        assert read(neon.set_number(target, value)) == f"mov {name}, {number(value)}"
    assert read(neon.set_upper(target, 0x7FFF)) == f"movk {name}, #0x7fff, lsl #16"
    for distance in (8, -8, (1 << 20) - 4):
        there = f"#{hex((0x1000 + distance) % 2**64)}"
        assert read(neon.jump_if_zero(target, distance)) == f"cbz {name}, {there}"


def test_jumps(read):
    for distance in (4, -4, -4000, (1 << 27) - 4, 0):
        assert read(neon.jump(distance)) == f"b #{hex((0x1000 + distance) % 2**64)}"
    assert read(neon.leave()) == "ret "


def test_numbers_that_do_not_fit_are_refused():
    for call in (
        lambda: neon.load(0, 0, 8), lambda: neon.load(0, 0, 65536), lambda: neon.store(0, 0, -16),
        lambda: neon.increase(0, 0, 4097), lambda: neon.decrease(0, 0, 4096), lambda: neon.set_number(0, 65536),
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            call()
