"""Each instruction against a disassembler."""

import pytest

from gpmt.runtime.machine_code import avx512
from gpmt.runtime.machine_code.avx512 import Register

capstone = pytest.importorskip("capstone")

VECTORS = range(32)
DISPLACEMENTS = (0, 64, -8192, 8128, 8192, 4, -4, 508, 512, -512, 2**31 - 1, -(2**31))


@pytest.fixture(scope="module")
def read():
    machine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)

    def read(code: bytes) -> str:
        """Return the only instruction of some bytes."""
        [(_, size, name, operands)] = machine.disasm_lite(code, 0)
        assert size == len(code)
        return f"{name} {operands}"

    return read


def address(base: Register, displacement: int, kind: str = "zmmword") -> str:
    sign = "-" if displacement < 0 else "+"
    number = abs(displacement)
    text = f" {sign} {number if number < 10 else hex(number)}" if number else ""
    return f"{kind} ptr [{base.name.lower()}{text}]"


@pytest.mark.parametrize("base", Register)
@pytest.mark.parametrize("wide", [False, True])
def test_memory(read, base, wide):
    for index, displacement in enumerate(DISPLACEMENTS * 3):
        register = index % 32
        at = (base, displacement)
        assert read(avx512.load(register, *at, wide=wide)) == f"vmovups zmm{register}, {address(*at)}"
        assert read(avx512.store(register, *at, wide=wide)) == f"vmovups {address(*at)}, zmm{register}"
        assert (
            read(avx512.add(register, *at, wide=wide))
            == f"vaddps zmm{register}, zmm{register}, {address(*at)}"
        )
        one = address(*at, kind="dword")
        assert read(avx512.broadcast(register, *at, wide=wide)) == f"vbroadcastss zmm{register}, {one}"
        assert read(avx512.prefetch(*at, wide=wide)) == f"prefetcht1 {address(*at, kind='byte')}"


@pytest.mark.parametrize("total", VECTORS)
def test_multiply_adds_of_all_registers(read, total):
    for factor in VECTORS:
        code = avx512.multiply_add(total, factor, Register.RAX, -512)
        assert len(code) == 7
        one = "dword ptr [rax - 0x200]{1to16}"
        assert read(code) == f"vfmadd231ps zmm{total}, zmm{factor}, {one}"


@pytest.mark.parametrize("target", VECTORS)
def test_registers(read, target):
    a, b = (target * 7 + 3) % 32, (target * 13 + 17) % 32
    assert read(avx512.maximum(target, a, b)) == f"vmaxps zmm{target}, zmm{a}, zmm{b}"
    assert read(avx512.minimum(target, a, b)) == f"vminps zmm{target}, zmm{a}, zmm{b}"
    assert read(avx512.clear(target)) == f"vpxord zmm{target}, zmm{target}, zmm{target}"
    assert read(avx512.align(target, a, b, 11)) == f"valignd zmm{target}, zmm{a}, zmm{b}, 0xb"
    mask = target % 7 + 1
    assert read(avx512.select(target, a, mask)) == f"vmovaps zmm{target} {{k{mask}}} {{z}}, zmm{a}"


@pytest.mark.parametrize("base", Register)
def test_addresses_and_counts(read, base):
    name = base.name.lower()
    assert read(avx512.load_mask(3, base, 64)) == f"kmovw k3, word ptr [{name} + 0x40]"
    assert read(avx512.load_mask(3, base, 640)) == f"kmovw k3, word ptr [{name} + 0x280]"
    for target in Register:
        assert read(avx512.load_address(target, base, 512)) == f"lea {target.name.lower()}, [{name} + 0x200]"
    assert read(avx512.load_stack(base, 8)) == f"mov {name}, qword ptr [rsp + 8]"
    assert read(avx512.increase(base, 1024)) == f"add {name}, 0x400"
    assert read(avx512.increase(base, -4)) == f"add {name}, -4"
    assert read(avx512.decrease_by_one(base)) == f"dec {name}"


def test_control(read):
    assert read(avx512.jump_if_not_zero(-100)) == f"jne {hex(2**64 - 100 + 6)}"
    assert avx512.leave() == bytes.fromhex("c5f877 c3")
    assert read(avx512.leave()[:3]) == "vzeroupper "
    assert read(avx512.leave()[3:]) == "ret "
